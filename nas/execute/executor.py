"""What an executor is: somewhere that performs jobs and says what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nas.config.run_config import RunConfig
from nas.ledger import Job, Reached, Result


@dataclass(frozen=True)
class Progressed:
    """A job has trained on."""

    number: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Done:
    """A job ended: with a result whose checkpoint is durable, or with the reason why not.

    result: how far it has come, where the job was to pause.
    fault: the reason is no fault of the candidate (the disk is full, the data can't be read): the job is to be
    run again once that is mended, and must not be recorded as failed.
    """

    number: int
    result: Result | Reached | None
    reason: str | None
    fault: bool = False


class Executor(Protocol):
    """Performs jobs, each known by its trial's number."""

    def submit(self, number: int, job: Job) -> None:
        """Perform `job` as soon as a worker is free."""
        ...

    def poll(self, timeout: float) -> Iterable[Progressed | Done]:
        """What happened, waiting up to `timeout` seconds for something to happen."""
        ...

    def close(self) -> None:
        """Stop everything at once; what was in flight is lost. Again does nothing."""
        ...


# (run folder, configuration, digest of the driver's data) -> an executor, which starts nothing before `submit`
ExecutorFactory = Callable[[Path, RunConfig, str], Executor]
