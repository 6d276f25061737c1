"""What a test that kills searches has done so far, kept so that it goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field

from faults.kill_plans import KillPlan

from nas.ledger.files import atomic_write


@dataclass
class State:
    """What the calls so far have done. size: the options of the search. run: how many searches were killed before.

    missed: searches that ended before their kill. unnoticed: drivers that did not end as they should when the raylet
    was dead. imports: seconds of what a driver does before it can have a worker. warm: seconds from a worker
    process's start to its first work.
    """

    size: list[str]
    kills: dict[str, int] = field(default_factory=dict[str, int])
    run: int = 0
    in_run: int = 0
    missed: int = 0
    lost: int = 0
    said: int = 0
    orphans: int = 0
    unnoticed: int = 0
    same: int = 0
    other: int = 0
    without_worker: int = 0
    imports: float = 0.0
    warm: float = 0.0
    resume: list[float] = field(default_factory=list[float])
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """Kills of any kind."""
        return sum(self.kills.values())

    @property
    def digest_counts(self) -> bool:
        """Whether no worker is killed in the present search."""
        return self.run % 3 != 2

    def save(self, plan: KillPlan) -> None:
        """Keep it, whole or not at all."""
        atomic_write(plan.state, json.dumps(asdict(self)).encode())


def state_of(plan: KillPlan, size: list[str]) -> State:
    """What a former call left, if it was about the same search."""
    if plan.state.exists():
        known = State(**json.loads(plan.state.read_text()))
        if known.size == size:
            return known
    shutil.rmtree(plan.folder, ignore_errors=True)
    plan.folder.mkdir(parents=True)
    return State(size)
