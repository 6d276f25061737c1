"""How kills.py treats a search by each executor: which processes it kills, how long the search is, where files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.figures import OUT


@dataclass(frozen=True)
class KillPlan:
    """What differs between executors. targets: killed in any search; parts: in every third, before the driver.

    size: children, generations and epochs of the search. kills, per_run: of a whole test, and of one search.
    leave: seconds within which all that a dead driver had started has to be gone. folder: holds all files of the test.
    """

    executor: str
    targets: tuple[str, ...]
    parts: tuple[str, ...]
    size: tuple[str, str, str]
    kills: int
    per_run: int
    leave: float
    folder: Path

    @property
    def state(self) -> Path:
        """What the calls so far have done."""
        return self.folder / "state.json"

    @property
    def whole(self) -> Path:
        """The undisturbed run."""
        return self.folder / "whole"

    @property
    def torn(self) -> Path:
        """The run that is killed."""
        return self.folder / "torn"

    @property
    def log(self) -> Path:
        """All that its drivers have written on standard output."""
        return self.folder / "torn.log"

    @property
    def complaints(self) -> Path:
        """What its last driver has written on standard error."""
        return self.folder / "torn.err"

    @property
    def going_on(self) -> bool:
        """Whether there is a run to resume."""
        return (self.torn / "ledger.db").exists()


PLANS: Mapping[str, KillPlan] = {
    plan.executor: plan
    for plan in (
        KillPlan(
            "local",
            targets=("all", "driver"),
            parts=("worker", "fork server"),
            size=("4", "5", "20"),
            kills=300,
            per_run=20,
            leave=20.0,
            folder=OUT / "kills",
        ),
        # Each kill costs a start of Ray, 10 s, so a short search is killed a few times. Two agents of Ray stay for a
        # minute: they first try to reach Ray's head, which is dead too.
        KillPlan(
            "ray",
            targets=("all", "driver", "raylet"),
            parts=("worker",),
            size=("3", "3", "20"),
            kills=20,
            per_run=5,
            leave=75.0,
            folder=OUT / "kills_ray",
        ),
    )
}
SHORT = ("2", "2", "2")  # the size of a search that is killed a few times only
