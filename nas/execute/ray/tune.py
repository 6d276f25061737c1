"""The driver's side of Ray Tune: one Tune run for each driver, fed from the ledger, which alone is the record.

Tune calls these classes from its own thread; they only pass messages on. Tune pickles them to save a state that it
could restore, which is never used: the pickle is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

from ray.tune import FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig, Tuner, with_resources
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nas.execute.ray.messages import STARTUP, Delivered, JobRequest, Order, Started
from nas.execute.ray.worker import MESSAGE, train_child

STARTS = 5  # attempts to start a worker, or to run a job whose workers die before they begin it


@dataclass(frozen=True)
class Running:
    """Tune gave a request's trial to the worker process of a place. number: STARTUP if it has no job."""

    number: int
    place: int
    actor: Any


@dataclass(frozen=True)
class Lost:
    """A request's trial ended without a result. cause: Ray's message."""

    number: int
    cause: str


@dataclass(frozen=True)
class NoWorker:
    """No worker started, in any place, in STARTS attempts each. cause: Ray's message for the last."""

    cause: str


@dataclass(frozen=True)
class Broken:
    """Tune itself ended."""

    cause: str


class _Closed(Exception):
    """The mailbox is closed."""


@dataclass
class Mailbox:
    """The queues between the engine's thread and Tune's. waiting: requests, None at the end. news: messages for the
    engine. cause: Ray's message for the last worker that died.
    """

    waiting: Queue[JobRequest | None] = field(default_factory=Queue["JobRequest | None"])
    news: Queue[Any] = field(default_factory=Queue[Any])
    closed: bool = False
    cause: str = "no reason"

    def close(self) -> None:
        """Have Tune end at its next step."""
        self.closed = True
        self.waiting.put(None)

    def __reduce__(self) -> tuple[type[Mailbox], tuple[()]]:
        return Mailbox, ()


class Place(PlacementGroupFactory):
    """The resources of one worker. No two places are equal to Tune, so that each keeps its own worker.

    If they were equal, Tune would give a free worker to the trial whose own worker is still starting, and stop that
    one: with children that are shorter than a start, a second worker would never start.
    """

    def __init__(self, number: int, resources: Mapping[str, float]) -> None:
        self.number = number
        super().__init__([dict(resources)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


class Feed(Searcher):
    """Suggests the submitted jobs in order, each to a worker that has started and is free.

    A trial without a job starts the worker of each place, at the beginning and after its death. A place whose worker
    has died STARTS times in a row while starting is not tried again.
    """

    def __init__(self, mailbox: Mailbox, order: Order, workers: int) -> None:
        super().__init__()
        self._mailbox, self._order = mailbox, order
        self._cold = list(range(workers))
        self._free: list[int] = []
        self._live: dict[str, tuple[int, JobRequest]] = {}
        self._failed_starts: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> Any:
        """Return a worker's start or the next job. Blocks for a job if nothing runs: Tune itself polls every second."""
        if self._mailbox.closed:
            return Searcher.FINISHED
        if self._cold:
            place, request = self._cold.pop(0), JobRequest(STARTUP, self._order, None, {})
        elif not self._free or (self._live and self._mailbox.waiting.empty()):
            return None
        elif (request := self._mailbox.waiting.get()) is None or self._mailbox.closed:
            return Searcher.FINISHED
        else:
            place = self._free.pop()
        self._live[trial_id] = place, request
        return {"place": place, "request": request}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Mark the place as free, or its worker as one to start again."""
        if trial_id not in self._live:
            return
        place, request = self._live.pop(trial_id)
        if not error:
            self._free.append(place)
            self._failed_starts[place] = 0
            return
        self._failed_starts[place] += request.number == STARTUP
        if self._failed_starts[place] < STARTS:
            self._cold.append(place)
        elif not (self._cold or self._free or self._live):
            self._mailbox.news.put(NoWorker(self._mailbox.cause))

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a new Tune run is fed from the ledger."""


class ResultCallback(TrialProgressCallback):
    """Passes on what workers report, and removes it from what Tune stores of a trial.

    It replaces the callback that prints each trial's end, which Tune would add otherwise.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """End Tune if the mailbox is closed; this is the only way that does not wait for a trial."""
        if self._mailbox.closed:
            raise _Closed

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Report that a worker process has the trial."""
        actor = trial.temporary_state.ray_actor
        self._mailbox.news.put(Running(_request_of(trial).number, trial.config["place"], actor))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """Pass on a worker's message."""
        message: Started | Delivered | None = result.pop(MESSAGE, None)
        if message is not None:
            self._mailbox.news.put(message)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Do nothing: the worker's last message was the end."""

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Report that a trial's process died or never started."""
        try:
            cause = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        except (OSError, TypeError):
            cause = "unknown: Ray gave no reason"
        self._mailbox.cause = cause.strip()
        number = _request_of(trial).number
        if number != STARTUP:
            self._mailbox.news.put(Lost(number, cause.strip()))


class KeepWorkers(FIFOScheduler):
    """First come, first served, with the process of every place kept between generations.

    Tune stops all idle processes but one, and starting the others again takes seconds. There is no public setting;
    without the private attribute used here, the search only gets slower.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: set[Any] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Have Tune keep one process for each place."""
        place = trial.placement_group_factory
        if place not in self._kept:
            self._kept.add(place)
            controller = getattr(tune_controller, "_tune_controller", tune_controller)
            cache = getattr(controller, "_actor_cache", None)
            if cache is not None:
                cache.increase_max(place, 1)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return any waiting trial, as each has its own place. Tune's own method searches all trials of the run."""
        return next((trial for trial in tune_controller.get_live_trials() if trial.status == "PENDING"), None)


def tune(mailbox: Mailbox, order: Order, workers: int, resources: Mapping[str, float], folder: Path) -> None:
    """Run Tune until the mailbox closes; sends Broken when it ends.

    order: of every request. resources: of one worker. folder: for Tune's files, to be deleted afterwards.
    """
    try:
        Tuner(
            with_resources(train_child, partial(_place, resources=resources)),
            tune_config=TuneConfig(
                search_alg=Feed(mailbox, order, workers),
                scheduler=KeepWorkers(),
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                callbacks=[ResultCallback(mailbox)],
                failure_config=FailureConfig(max_failures=0),
            ),
        ).fit()
        mailbox.news.put(Broken("it ended"))
    except BaseException as error:
        mailbox.news.put(Broken(f"{type(error).__name__}: {error}".strip().splitlines()[-1]))


def _place(config: Mapping[str, Any], resources: Mapping[str, float]) -> Place:
    return Place(config["place"], resources)


def _request_of(trial: Any) -> JobRequest:
    return trial.config["request"]
