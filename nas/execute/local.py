"""The local executor: worker processes on this machine, no Ray. A worker that dies fails its own job alone.

Workers are started by name rather than by multiprocessing's spawn, which would run the user's main script
again in each of them. Each is the leader of a session: Ctrl-C reaches the driver alone, and a worker is
killed with all that it started.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nas.config import RunConfig
from nas.execute.executor import Done, Progressed
from nas.execute.worker import Began, Order
from nas.ledger import Job

LOG = "workers.log"
START_SECONDS = 300.0  # allowed for a worker's imports and data, on top of the timeout for a child
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from nas.execute.worker import main; main(int(sys.argv[1]))"
)


@dataclass(eq=False)
class _Worker:
    """One process and what it is doing."""

    process: subprocess.Popen[bytes]
    pipe: Connection[Any, Any]
    job: tuple[int, Job] | None = None
    deadline: float | None = None
    reason: str | None = None  # why we killed it

    @property
    def free(self) -> bool:
        return self.job is None and self.process.poll() is None

    def kill(self) -> None:
        """End it and all that it started; a frozen process as well."""
        if self.process.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class LocalExecutor:
    """Up to `config.workers` processes of `config.threads` threads each, started with the first job."""

    run: Path
    config: RunConfig
    data_digest: str
    _workers: list[_Worker] = field(default_factory=list[_Worker])
    _waiting: deque[tuple[int, Job]] = field(default_factory=deque[tuple[int, Job]])

    def submit(self, number: int, job: Job) -> None:
        """Queue a job and start it if a worker is free."""
        self._waiting.append((number, job))
        self._assign()

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        """Progress and ends of jobs; kills workers that exceed the timeout for one child."""
        self._kill_late()
        owners: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        events = [event for pipe in wait(owners, timeout) for event in self._receive(owners[pipe])]
        self._assign()
        yield from events

    def close(self) -> None:
        """Kill every worker."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.pipe.close()
        self._workers.clear()
        self._waiting.clear()

    def _assign(self) -> None:
        if not self._workers:  # all that a generation can use: the others start while the first is at work
            for _ in range(min(self.config.workers, self.config.children + 1)):
                self._start()
        while self._waiting:
            free = next((worker for worker in self._workers if worker.free), None)
            if free is None and len(self._workers) < self.config.workers:
                free = self._start()
            if free is None:
                return
            free.job = self._waiting.popleft()
            free.deadline = self._deadline(free.job[1], START_SECONDS)
            with suppress(OSError):  # it died this moment: poll reports the job as lost
                free.pipe.send(free.job)

    def _deadline(self, job: Job, allowance: float = 0.0) -> float | None:
        limit = self.config.child_timeout
        return None if limit is None or job.kind == "final" else time.monotonic() + limit + allowance

    def _start(self) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        with (self.run / LOG).open("ab") as log, theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _MAIN,
                    str(theirs.fileno()),
                    json.dumps([str(entry) for entry in sys.path]),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        worker = _Worker(process, ours)
        self._workers.append(worker)
        with suppress(OSError):
            worker.pipe.send(Order(self.run.absolute(), self.config, self.data_digest))
        return worker

    def _receive(self, worker: _Worker) -> list[Progressed | Done]:
        """What one message says, or the end of the worker."""
        try:
            message: Began | Progressed | Done = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(message, Began):
            if worker.job is not None:
                worker.deadline = self._deadline(worker.job[1])
            return []
        if isinstance(message, Done):
            worker.job = worker.deadline = None
        return [message]

    def _kill_late(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.deadline is not None and now > worker.deadline:
                worker.reason = f"it took longer than {self.config.child_timeout:g} s (--child-timeout)"
                worker.kill()

    def _bury(self, worker: _Worker) -> list[Progressed | Done]:
        """Forget a worker that closed its end, and say what that means for its job."""
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)
        worker.kill()
        code = worker.process.wait()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.job is None:
            return []
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = "most likely for want of memory" if code == -signal.SIGKILL else f"see {self.run / LOG}"
        reason = worker.reason or f"its worker process died ({cause}; {hint})"
        return [Done(worker.job[0], None, reason)]
