"""How kills.py treats a search by each executor: what it strikes, how long the search is, where it keeps its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from _common import OUT


@dataclass(frozen=True)
class Course:
    """What is other for each executor. targets: struck in any search; parts: in every third, before the driver.

    size: children, generations and epochs of the search. kills, per_run: how many unless the command says otherwise.
    leave: seconds within which all that a dead driver had started has to be gone.
    """

    executor: str
    targets: tuple[str, ...]
    parts: tuple[str, ...]
    size: tuple[str, str, str]
    kills: int
    per_run: int
    leave: float
    name: str  # of its files in out/

    @property
    def state(self) -> Path:
        """What the calls so far have done."""
        return OUT / f"{self.name}.json"

    @property
    def whole(self) -> Path:
        """The undisturbed run."""
        return OUT / f"{self.name}_whole"

    @property
    def torn(self) -> Path:
        """The run that is killed."""
        return OUT / f"{self.name}_torn"

    @property
    def log(self) -> Path:
        """All that its drivers have said on standard output."""
        return OUT / f"{self.name}_torn.log"

    @property
    def complaints(self) -> Path:
        """What its last driver has said on standard error."""
        return OUT / f"{self.name}_torn.err"

    @property
    def going_on(self) -> bool:
        """Whether there is a run to resume."""
        return (self.torn / "ledger.db").exists()


COURSES: Mapping[str, Course] = {
    course.executor: course
    for course in (
        Course("local", ("all", "driver"), ("worker", "nursery"), ("4", "5", "20"), 300, 20, 20.0, "kills"),
        # Each kill costs a start of Ray, 10 s, so that a short search is killed a few times. Two agents of Ray stay for
        # a minute: they want to tell a head that is dead as well.
        Course("ray", ("all", "driver", "raylet"), ("worker",), ("3", "3", "20"), 20, 5, 75.0, "kills_ray"),
    )
}
