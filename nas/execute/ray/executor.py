"""The Ray executor: the jobs become trials of one Ray Tune run, on any node of the cluster with free resources.

Driver and workers exchange only messages, so they need no shared folder: the parent's weights are sent through
Ray's object store; the child's weights return with the report and are put into the run's store here, before the
job counts as done.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import ray
from ray.exceptions import RayError

import morphs
from nas.base.arithmetic import environment
from nas.base.errors import NasError, RunError, UserError
from nas.base.text import nas_command
from nas.config.run_config import RunConfig
from nas.execute.executor import Done, Progressed
from nas.execute.local import LOG, START_SECONDS
from nas.execute.ray.last_word import LastWord
from nas.execute.ray.messages import Delivered, JobRequest, Order, PackedNetwork, Started
from nas.execute.ray.running_jobs import RunningJob, has_room, kill, last_line, no_room, nodes_alive, why
from nas.execute.ray.session import Session, connect
from nas.execute.ray.transfer import Storage, opened
from nas.execute.ray.tune import STARTS, Broken, Lost, Mailbox, NoWorker, Running, tune
from nas.ledger import Job, Store, current_versions, read_config
from nas.ledger.files import canonical_json
from nas.ledger.leftovers import TEMPORARY, temporary_folder

SETTLE_SECONDS = 3.0  # if a whole node dies, Ray reports the worker's death before the node's
CLOSE_SECONDS = 15.0


@dataclass
class RayExecutor:
    """Trains `config.workers` children at once, each with `config.threads` processors and its share of a GPU.

    patience: seconds that jobs wait while no worker runs before the search fails.
    again: how often a job was run again because its node died or its worker never started.
    """

    run: Path
    config: RunConfig
    data_digest: str
    patience: float = START_SECONDS
    again: int = 0
    _session: Session | None = None
    _mailbox: Mailbox = field(default_factory=Mailbox)
    _thread: threading.Thread | None = None
    _order: Order | None = None  # what the workers know
    _workers: dict[int, Any] = field(default_factory=dict[int, Any])  # the latest worker of each place
    _killed: list[Any] = field(default_factory=list[Any])  # workers killed after --child-timeout
    _scratch: ExitStack = field(default_factory=ExitStack)
    _last_word: LastWord | None = None
    _idle_since: float | None = None  # since when jobs have waited and no worker runs
    _running: dict[int, RunningJob] = field(default_factory=dict[int, RunningJob])
    _sent: dict[str, ray.ObjectRef[PackedNetwork]] = field(
        default_factory=dict[str, "ray.ObjectRef[PackedNetwork]"]
    )
    _name: str | None = None  # the run's, if there is a storage
    _uploaded: set[str] = field(default_factory=set[str])  # digests in the storage, as far as is known

    def __post_init__(self) -> None:
        if self.config.storage:  # an earlier driver may have uploaded them
            self._name = read_config(self.run).run
            self._uploaded.update(Store(self.run / "checkpoints").digests())

    def submit(self, number: int, job: Job) -> None:
        """Pass a job to Tune. The first call starts Ray; raises RunError if that fails."""
        if self._thread is None:
            self._start()
        try:
            networks = self._send(job)
        except UserError as error:  # from the record or the storage
            self._mailbox.news.put(Delivered(Done(number, None, str(error), fault=True), {}))
            self._running[number] = RunningJob(JobRequest(number, None, None, {}), job)
            return
        running = RunningJob(JobRequest(number, self._order, job, networks), job)
        self._running[number] = running
        self._mailbox.waiting.put(running.request)

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        """Yield progress and ends of jobs. Raises NasError if Ray itself has died or starts no worker."""
        with _ray_errors(self.run):
            self._check_idle()
        if self._session is not None and self._session.raylet_died():
            again = nas_command("resume", self.run)
            raise NasError(
                f"search: Ray's daemon on this machine died; no result is lost, continue with: {again}"
            )
        news: list[Any] = []
        with suppress(Empty):
            news.append(self._mailbox.news.get(timeout=timeout))
            while True:
                news.append(self._mailbox.news.get_nowait())
        for message in news:
            yield from self._handle(message)
        self._kill_late()  # only now is it known which jobs have ended and which job each worker has
        with _ray_errors(self.run):
            yield from self._resolve_lost()

    @property
    def running(self) -> tuple[RunningJob, ...]:
        """The running jobs."""
        return tuple(self._running.values())

    def close(self) -> None:
        """Kill every worker, and shut Ray down if it was started here."""
        session, self._session = self._session, None
        if session is None:
            return
        self._mailbox.close()
        if self._thread is not None and not session.raylet_died(at_once=True):
            self._kill_all(self._thread)
        session.close()
        if self._last_word is not None:
            self._last_word.close()
        self._running.clear()
        self._sent.clear()
        self._scratch.close()

    def _start(self) -> None:
        if self.config.storage:
            self._storage()
        self._last_word = LastWord.start(self.run)  # first: Ray may end this process while it is started
        try:
            self._session = connect(self.config, self.run / LOG)
        except BaseException:
            self._last_word.close()
            raise
        scratch = self._scratch.enter_context(temporary_folder(f"{TEMPORARY}ray-", self.run.absolute()))
        self._order = Order(
            config=canonical_json(self.config.model_dump(mode="json")),  # a path need not be UTF-8
            data_digest=self.data_digest,
            folder=os.getcwd(),
            path=tuple(os.path.abspath(entry) for entry in sys.path),
            storage=self.config.storage,
            run=self._name,
            versions=(*current_versions().items(), *environment().items()),
        )
        resources = {"CPU": float(self.config.threads), "GPU": self.config.gpu_share}
        with _ray_errors(self.run):
            if self.config.address is None and not has_room(self.config):  # a cluster may still add nodes
                raise RunError(no_room(self.config))
        self._thread = threading.Thread(
            target=tune,
            args=(self._mailbox, self._order, self.config.workers, resources, scratch),
            daemon=True,
        )
        self._thread.start()

    def _kill_all(self, thread: threading.Thread) -> None:
        """Kill the workers until Tune's thread, which waits for them, has ended: it can't use Ray once that is shut."""
        end = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers.values():
            kill(worker)
        while thread.is_alive() and time.monotonic() < end:
            with suppress(Empty):
                message = self._mailbox.news.get(timeout=0.1)
                if isinstance(message, Running):
                    kill(message.actor)

    def _send(self, job: Job) -> dict[str, ray.ObjectRef[PackedNetwork]]:
        """Make the networks that `job` reads available to its future worker. Raises RunError, LedgerDamaged."""
        store = Store(self.run / "checkpoints")
        needed = {
            digest for running in self._running.values() for digest in running.job.training.checkpoints
        } | {*job.training.checkpoints}
        if self.config.storage:
            self._upload(job, store, needed)
            return {}
        self._sent = {digest: sent for digest, sent in self._sent.items() if digest in needed}
        for digest in job.training.checkpoints:
            if digest not in self._sent:
                with _ray_errors(self.run):
                    self._sent[digest] = ray.put(morphs.pack(store.get(digest)))
        return {digest: self._sent[digest] for digest in job.training.checkpoints}

    def _storage(self) -> Storage:
        return Storage(str(self.config.storage), self._name)

    def _upload(self, job: Job, store: Store, needed: set[str]) -> None:
        """Put what `job` reads into the storage, and remove what the run has removed meanwhile (--keep)."""
        storage = self._storage()
        for digest in job.training.checkpoints:
            if not storage.has(digest):
                storage.put(digest, morphs.pack(store.get(digest)))
        for digest in self._uploaded - needed:
            if not store.has(digest):
                storage.remove(digest)
                self._uploaded.discard(digest)
        self._uploaded.update(job.training.checkpoints)

    def _handle(self, message: Any) -> Iterator[Progressed | Done]:
        """Handle a message from Tune's thread; yield what the engine has to know."""
        if isinstance(message, Broken):
            raise NasError(
                f"search: Ray Tune stopped ({message.cause}); continue with: {nas_command('resume', self.run)}"
            )
        if isinstance(message, NoWorker):
            raise RunError(
                f"{_no_worker(message.cause)}; fix that and continue with: {nas_command('resume', self.run)}"
            )
        if isinstance(message, Running):
            self._workers[message.place] = message.actor
        number = message.done.number if isinstance(message, Delivered) else message.number
        running = self._running.get(number)
        if running is None:
            return
        if isinstance(message, Progressed):
            yield message
        elif isinstance(message, Running):
            running.actor, running.node, running.lost = message.actor, None, None
            running.starts += 1
            running.deadline = self._deadline(running, START_SECONDS)
        elif isinstance(message, Started):
            running.node = message.node
            running.deadline = self._deadline(running)
        elif isinstance(message, Delivered):
            if (
                message.done.fault and self.config.storage
            ):  # the copies there may be damaged: upload them again
                for digest in running.job.training.checkpoints:
                    self._storage().remove(digest)
            yield self._ended(running, self._stored(message))
        elif isinstance(message, Lost):
            running.deadline, running.lost = None, (time.monotonic(), message.cause)

    def _stored(self, message: Delivered) -> Done:
        """Store the networks that a job made, durably, and return its end."""
        result = message.done.result
        if result is None:
            return message.done
        try:
            for digest in result.checkpoints:
                packed = message.packed.get(digest) or self._storage().get(digest)
                Store(self.run / "checkpoints").put(opened(packed, digest))
                self._uploaded.add(digest)
        except UserError as error:
            return Done(message.done.number, None, str(error), fault=True)
        return message.done

    def _resolve_lost(self) -> Iterator[Done]:
        """Run the lost jobs again whose node died or whose worker never started; the others have failed."""
        lost = [running for running in self._running.values() if running.lost is not None]
        if not lost:
            return
        nodes = nodes_alive()
        for running in lost:
            assert running.lost is not None
            since, cause = running.lost
            if running.reason is not None:
                yield self._ended(running, Done(running.request.number, None, running.reason))
            elif running.node is None or running.node not in nodes or running.actor in self._killed:
                yield from self._retry(running, cause)
            elif (
                len(nodes) == 1 or time.monotonic() - since > SETTLE_SECONDS
            ):  # only the worker died, its node is alive
                yield self._ended(running, Done(running.request.number, None, why(cause, self.run / LOG)))

    def _retry(self, running: RunningJob, cause: str) -> Iterator[Done]:
        running.lost = running.node = None
        if (
            running.starts < STARTS + self.config.workers
        ):  # all idle workers but one may have been on the node that died
            self.again += 1
            self._mailbox.waiting.put(running.request)
            return
        yield self._ended(
            running, Done(running.request.number, None, f"{_no_worker(cause)}; fix that", fault=True)
        )

    def _ended(self, running: RunningJob, done: Done) -> Done:
        del self._running[running.request.number]
        running.request.clear()
        return done

    def _check_idle(self) -> None:
        """Raise RunError if jobs have waited longer than `patience` and no worker has started."""
        waiting = [running for running in self._running.values() if running.request.order is not None]
        now = time.monotonic()
        if not waiting or any(running.node is not None for running in waiting):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > self.patience:
            fact = f"ray: no worker started in {self.patience:.0f} s; look for the cause with: ray status"
            fact = fact if has_room(self.config) else no_room(self.config)
            raise RunError(f"{fact}; then continue with: {nas_command('resume', self.run)}")

    def _deadline(self, running: RunningJob, allowance: float = 0.0) -> float | None:
        limit = self.config.child_timeout
        return None if limit is None or running.job.final else time.monotonic() + limit + allowance

    def _kill_late(self) -> None:
        for running in self._running.values():
            if running.deadline is not None and time.monotonic() > running.deadline:
                running.reason = f"it took longer than {self.config.child_timeout:g} s (--child-timeout)"
                running.deadline = None
                self._killed.append(running.actor)  # Tune may just have given it another job
                kill(running.actor)


@contextmanager
def _ray_errors(run: Path) -> Generator[None]:
    """Turn Ray's own errors (its object store is full, its head does not answer) into RunError, in one line."""
    try:
        yield
    except RayError as error:
        fact = f"ray: {type(error).__name__} ({last_line(str(error))})"
        raise RunError(f"{fact}; fix that and continue with: {nas_command('resume', run)}") from error


def _no_worker(cause: str) -> str:
    return f"ray: one worker after another died before it began its job, the last with: {last_line(cause)}"
