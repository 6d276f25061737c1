"""The local executor: worker processes on this machine, without Ray. A worker that dies fails only its own job.

`nas.execute.worker_processes` decides how workers are started; never by multiprocessing, which would run the user's
main script again. Ctrl-C reaches the driver only; a worker is killed with all that it started.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nas.config.run_config import RunConfig
from nas.execute.executor import Done, Progressed
from nas.execute.worker import Began
from nas.execute.worker_messages import Ended, Start
from nas.execute.worker_processes import WorkerProcesses, start_processes
from nas.ledger import Job

LOG = "workers.log"
TRIES = 3  # for a job whose fork server dies: usually not the job's fault, unless it uses up all memory
START_SECONDS = 300.0  # allowed for a worker's imports and data, in addition to the timeout for a child


@dataclass(eq=False)
class _Worker:
    """One process and what it is doing."""

    number: int
    pipe: Connection[Any, Any]
    job: tuple[int, Job] | None = None
    began: int | None = None  # the number of the last job that it reported to have started
    deadline: float | None = None
    reason: str | None = None  # why we killed it
    lost: bool = False  # its end of the pipe is closed; `ended_workers` will report why


@dataclass
class LocalExecutor:
    """Up to `config.workers` processes of `config.threads` threads each, started with the first job.

    processes: starts the workers. If None, it is created with the first job.
    """

    run: Path
    config: RunConfig
    data_digest: str
    processes: WorkerProcesses | None = None
    _workers: list[_Worker] = field(default_factory=list[_Worker])
    _waiting: deque[tuple[int, Job]] = field(default_factory=deque[tuple[int, Job]])
    _numbers: Iterator[int] = field(default_factory=count)
    _orphaned: Counter[int] = field(default_factory=Counter[int])  # how often a job's fork server has died

    def submit(self, number: int, job: Job) -> None:
        """Queue a job and start it if a worker is free."""
        self._waiting.append((number, job))
        self._assign()

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        """The progress and results of jobs. Kills workers that exceed the timeout for one child."""
        self._kill_late()
        owners: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers if not worker.lost}
        wakes = self.processes.wakes if self.processes else ()
        ready = wait([*owners, *wakes], timeout)
        events = [event for pipe in ready if pipe in owners for event in self._receive(owners[pipe])]
        events += self._reap()
        self._assign()
        yield from events

    def close(self) -> None:
        """Kill every worker."""
        if self.processes:
            self.processes.close()
        self.processes = None
        for worker in self._workers:
            worker.pipe.close()
        self._workers.clear()
        self._waiting.clear()

    def _assign(self) -> None:
        if not self._workers:  # start all that a generation can use, so that they load while the first works
            for _ in range(min(self.config.workers, self.config.children + 1)):
                self._start()
        while self._waiting:
            free = next((worker for worker in self._workers if worker.job is None and not worker.lost), None)
            if free is None and len(self._workers) < self.config.workers:
                free = self._start()
            if free is None:
                return
            free.job = self._waiting.popleft()
            free.deadline = self._deadline(free.job[1], START_SECONDS)
            try:
                free.pipe.send(free.job)
            except OSError:  # it died while idle: give the job to another worker
                self._waiting.appendleft(free.job)
                free.job, free.lost = None, True

    def _deadline(self, job: Job, allowance: float = 0.0) -> float | None:
        limit = self.config.child_timeout
        return None if limit is None or job.final else time.monotonic() + limit + allowance

    def _start(self) -> _Worker:
        if self.processes is None or self.processes.died is not None:
            self.processes = start_processes()
        order = Start(next(self._numbers), self.config, self.run.absolute(), self.data_digest, self.run / LOG)
        worker = _Worker(order.number, self.processes.start_worker(order))
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker) -> list[Progressed | Done]:
        """The event in one message of a worker. `_reap` handles ended workers."""
        try:
            message: Began | Progressed | Done = worker.pipe.recv()
        except (EOFError, OSError):
            worker.lost = True
            self._kill(worker)
            return []
        if isinstance(message, Began):
            worker.began = message.number
            if worker.job is not None:
                worker.deadline = self._deadline(worker.job[1])
            return []
        if isinstance(message, Done):
            worker.job = worker.deadline = None
        return [message]

    def _kill(self, worker: _Worker) -> None:
        if self.processes:
            self.processes.kill_worker(worker.number)

    def _kill_late(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.deadline is not None and now > worker.deadline and worker.reason is None:
                worker.reason = f"it took longer than {self.config.child_timeout:g} s (--child-timeout)"
                self._kill(worker)

    def _reap(self) -> Iterator[Done]:
        """Remove ended workers; yield the results of their jobs, or queue the jobs again."""
        if self.processes is None:
            return
        ends = {end.number: end for end in self.processes.ended_workers()}
        died = self.processes.died
        if died is not None:
            ends = {worker.number: Ended(worker.number, died) for worker in self._workers}
        for worker in [worker for worker in self._workers if worker.number in ends]:
            worker.pipe.close()
            self._workers.remove(worker)
            if worker.job is None:
                continue
            number, end = worker.job[0], ends[worker.number]
            self._orphaned[number] += died is not None
            if end.not_started:
                fact = f"its worker process can't be started ({end.not_started})"
                yield Done(number, None, f"{fact}; free memory or lower --workers", fault=True)
            elif worker.reason:
                yield Done(number, None, worker.reason)
            elif died is not None and self._orphaned[number] < TRIES:
                self._waiting.append(worker.job)
            elif worker.began not in (None, number):  # it died while idle, before it received the job
                self._waiting.appendleft(worker.job)
            else:
                yield Done(number, None, self._why(end.code))

    def _why(self, code: int) -> str:
        cause = _signal_name(-code) if code < 0 else f"exit code {code}"
        hint = "probably out of memory" if cause == "SIGKILL" else f"see {self.run / LOG}"
        return f"its worker process died ({cause}; {hint})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
