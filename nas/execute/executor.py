"""The executor protocol: an executor performs jobs and reports their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nas.config.run_config import RunConfig
from nas.ledger import Job, Reached, Result


@dataclass(frozen=True)
class Progressed:
    """A job has trained `step` of `steps`."""

    number: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Done:
    """A job ended: with a result whose checkpoint is durable, or with the reason why not.

    result: a `Reached` if the job was to pause.
    fault: the cause is not the candidate (the disk is full, the data can't be read): the job must be run again once
    the cause is fixed, and must not be recorded as failed.
    """

    number: int
    result: Result | Reached | None
    reason: str | None
    fault: bool = False


class Executor(Protocol):
    """Performs jobs, each identified by its trial's number."""

    def submit(self, number: int, job: Job) -> None:
        """Perform `job` as soon as a worker is free."""
        ...

    def poll(self, timeout: float) -> Iterable[Progressed | Done]:
        """The events since the last call; waits up to `timeout` seconds for one."""
        ...

    def close(self) -> None:
        """Stop everything at once; running jobs are lost. A second call does nothing."""
        ...


# (run folder, configuration, digest of the driver's data) -> an executor, which starts nothing before `submit`
ExecutorFactory = Callable[[Path, RunConfig, str], Executor]
