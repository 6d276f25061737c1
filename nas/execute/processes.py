"""What starts the local executor's workers: forks of a fork server, or processes that are started fresh."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.execute.fork_server import ForkServer
from nas.execute.orders import Ended, Start
from nas.execute.spawned import SpawnedWorkers

VARIABLE = "NAS_WORKERS"
METHODS = ("fork", "spawn")


class WorkerProcesses(Protocol):
    """The worker processes of one driver, known by their numbers. They end when it does, however it does.

    died: the exit code of the process that all workers came from, once it is gone and they with it; else None.
    """

    died: int | None

    @property
    def wakes(self) -> Sequence[Connection[Any, Any]]:
        """What is readable when a worker may have ended, beside the worker's own pipe."""
        ...

    def load(self, config: RunConfig) -> None:
        """The data of `config` will be needed soon."""
        ...

    def start_worker(self, order: Start) -> Connection[Any, Any]:
        """Have a worker started; our end of its pipe. One that can't be started is among `ended_workers`."""
        ...

    def kill_worker(self, number: int) -> None:
        """Kill a worker and all that it started."""
        ...

    def ended_workers(self) -> list[Ended]:
        """Workers that are gone since the last call."""
        ...

    def close(self) -> None:
        """Kill every worker; again does nothing."""
        ...


def start_method() -> str:
    """How workers are started here: $NAS_WORKERS, or "fork" on Linux and "spawn" elsewhere.

    macOS can fork, but its own libraries may crash in the child; Windows can't. Raises UserError.
    """
    can_fork = hasattr(os, "fork")
    method = os.environ.get(VARIABLE) or ("fork" if can_fork and sys.platform == "linux" else "spawn")
    if method not in METHODS:
        raise UserError(f"{VARIABLE}={method}: there is no such way to start workers; use fork or spawn")
    if method == "fork" and not can_fork:
        raise UserError(f"{VARIABLE}=fork: this system can't fork; use spawn")
    return method


def fork_processes() -> ForkServer | None:
    """A fork server that shares what this process has imported, for one that has done nothing but import; None where
    workers are started otherwise. Raises UserError.
    """
    return ForkServer.fork_off() if start_method() == "fork" else None


def start_processes() -> WorkerProcesses:
    """Whatever `start_method` says, started by a process that may have any threads. Raises UserError."""
    return ForkServer.start() if start_method() == "fork" else SpawnedWorkers()
