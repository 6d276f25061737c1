"""Starts the local executor's workers, by a fork server or as new processes (spawn)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.execute.fork_server import ForkServer
from nas.execute.spawned_workers import SpawnedWorkers
from nas.execute.worker_messages import Ended, Start

VARIABLE = "NAS_WORKERS"
METHODS = ("fork", "spawn")


class WorkerProcesses(Protocol):
    """The worker processes of one driver, identified by number. They end when the driver ends, however it ends.

    died: the exit code of the fork server once it and all its workers have ended; else None.
    """

    died: int | None

    @property
    def wakes(self) -> Sequence[Connection[Any, Any]]:
        """Connections that become readable when a worker may have ended, besides the worker's own pipe."""
        ...

    def load(self, config: RunConfig) -> None:
        """Announce that the data of `config` will be needed soon."""
        ...

    def start_worker(self, order: Start) -> Connection[Any, Any]:
        """Start a worker; return our end of its pipe. If it can't be started, `ended_workers` reports it."""
        ...

    def kill_worker(self, number: int) -> None:
        """Kill a worker and all that it started."""
        ...

    def ended_workers(self) -> list[Ended]:
        """The workers that have ended since the last call."""
        ...

    def close(self) -> None:
        """Kill every worker. A second call does nothing."""
        ...


def start_method() -> str:
    """How workers are started: $NAS_WORKERS, or else "fork" on Linux and "spawn" elsewhere.

    macOS can fork, but its system libraries may crash in the child; Windows can't fork. Raises UserError.
    """
    can_fork = hasattr(os, "fork")
    method = os.environ.get(VARIABLE) or ("fork" if can_fork and sys.platform == "linux" else "spawn")
    if method not in METHODS:
        raise UserError(f"{VARIABLE}={method} is not a way to start workers; use fork or spawn")
    if method == "fork" and not can_fork:
        raise UserError(f"{VARIABLE}=fork: this system can't fork; use spawn")
    return method


def fork_processes() -> ForkServer | None:
    """A fork server that shares what this process has imported; None where workers are not forked. Only for a process
    that has done nothing but import. Raises UserError.
    """
    return ForkServer.fork_off() if start_method() == "fork" else None


def start_processes() -> WorkerProcesses:
    """Worker processes by `start_method`, safe from a process with several threads. Raises UserError."""
    return ForkServer.start() if start_method() == "fork" else SpawnedWorkers()
