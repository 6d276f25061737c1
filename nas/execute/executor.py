"""What an executor is: somewhere that performs jobs and says what came of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from nas.ledger import Job, Result


@dataclass(frozen=True)
class Progressed:
    """A job has trained on."""

    number: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Done:
    """A job ended: with a result whose checkpoint is durable, or with the reason why not."""

    number: int
    result: Result | None
    reason: str | None


class Executor(Protocol):
    """Performs jobs, each known by its trial's number."""

    @property
    def slots(self) -> int:
        """How many jobs run at once."""
        ...

    def submit(self, number: int, job: Job) -> None:
        """Perform `job` as soon as a worker is free."""
        ...

    def poll(self, timeout: float) -> Iterable[Progressed | Done]:
        """What happened, waiting up to `timeout` seconds for something to happen."""
        ...

    def close(self) -> None:
        """Stop everything at once; what was in flight is lost."""
        ...
