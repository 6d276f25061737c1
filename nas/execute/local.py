"""The local executor: spawned worker processes, no Ray. A worker that dies fails its own job alone."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from morphs.errors import MorphError
from nas.config import RunConfig
from nas.errors import NasError
from nas.execute.executor import Done, Progressed
from nas.ledger import Job, job_from, result_from

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    """One process and what it is doing."""

    process: SpawnProcess
    pipe: Connection
    number: int | None = None
    since: float = 0.0
    reason: str | None = None  # why we killed it


@dataclass
class LocalExecutor:
    """Up to `config.workers` processes of `config.threads` threads each, started when first needed."""

    run: Path
    config: RunConfig
    _workers: list[_Worker] = field(default_factory=list[_Worker])
    _waiting: deque[tuple[int, Job]] = field(default_factory=deque[tuple[int, Job]])

    @property
    def slots(self) -> int:
        """Workers at once."""
        return self.config.workers

    def submit(self, number: int, job: Job) -> None:
        """Queue a job and start it if a worker is free."""
        self._waiting.append((number, job))
        self._assign()

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        """Progress and ends of jobs; kills workers that exceed the timeout for one child."""
        self._kill_late()
        watched: dict[Any, _Worker] = {}
        for worker in self._workers:
            watched[worker.pipe] = worker
            watched[worker.process.sentinel] = worker
        events: list[Progressed | Done] = []
        ended: list[_Worker] = []
        for ready in wait(list(watched), timeout):
            worker = watched[ready]
            if worker in ended:
                continue
            if isinstance(ready, Connection):
                ended += [] if self._receive(worker, events) else [worker]
            elif not worker.pipe.poll():
                ended.append(worker)
        for worker in ended:
            self._bury(worker, events)
        self._assign()
        yield from events

    def close(self) -> None:
        """Kill every worker."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()
        self._waiting.clear()

    def _assign(self) -> None:
        while self._waiting:
            free = next((worker for worker in self._workers if worker.number is None), None)
            if free is None and len(self._workers) < self.slots:
                free = self._spawn()
            if free is None:
                return
            number, job = self._waiting.popleft()
            free.number, free.since = number, time.monotonic()
            try:
                free.pipe.send((number, job.to_dict()))
            except (BrokenPipeError, ConnectionError):  # it died while idle; poll reports the job as lost
                continue

    def _spawn(self) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_work, args=(theirs, self.run, self.config), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker, events: list[Progressed | Done]) -> bool:
        """Read one message; False when the worker is gone."""
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionError, OSError):
            return False
        if isinstance(message, Progressed):
            events.append(message)
        else:
            number, result, reason = message
            worker.number = None
            events.append(Done(number, result_from(result) if result is not None else None, reason))
        return True

    def _kill_late(self) -> None:
        limit = self.config.child_timeout
        for worker in self._workers:
            if limit is not None and worker.number is not None and time.monotonic() - worker.since > limit:
                worker.reason = f"it took longer than {limit:g} s (--child-timeout)"
                worker.process.kill()

    def _bury(self, worker: _Worker, events: list[Progressed | Done]) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        if worker.number is not None:
            code = worker.process.exitcode or 0
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            hint = ", most likely for want of memory" if code == -signal.SIGKILL else ""
            reason = worker.reason or f"its worker process died ({cause}{hint})"
            events.append(Done(worker.number, None, reason))


def _work(pipe: Connection, run: Path, config: RunConfig) -> None:
    """A worker process: perform jobs until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    import torch

    from nas.data import load_search_data, load_test_split
    from nas.execute.task import Worksite, perform

    torch.set_num_threads(config.threads)
    root = Path(config.data_root) if config.data_root else None
    site = Worksite(run, config.train, config.device, lambda: load_test_split(config.data, root, config.seed))
    data = None
    while True:
        try:
            number, document = pipe.recv()
        except (EOFError, ConnectionError):
            return

        def progress(step: int, steps: int, loss: float, number: int = number) -> None:
            pipe.send(Progressed(number, step, steps, loss))

        try:
            data = data or load_search_data(config.data, root, config.seed, config.val_fraction)
            done = (number, perform(job_from(document), site, data, progress).to_dict(), None)
        except (BrokenPipeError, ConnectionError):
            return  # the driver is gone: the job will be run again by the next one
        except (MorphError, NasError) as error:
            done = (number, None, str(error))
        except MemoryError:
            done = (number, None, "it ran out of memory; set a limit on parameters or activations")
        except Exception:
            done = (number, None, "it raised an exception: " + traceback.format_exc(limit=-3)[-2000:])
        try:
            pipe.send(done)
        except (BrokenPipeError, ConnectionError):
            return
