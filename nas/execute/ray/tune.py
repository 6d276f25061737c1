"""The driver's side of Ray Tune: one Tune run for each driver, fed from the ledger, never the truth.

Tune calls these from its own thread; they only pass on what they hear. Tune pickles them where it would keep a
state to restore, which we never do: they pickle as empty.
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

STARTS = 5  # attempts at a worker that never comes up, or at a job whose workers die before they begin it


@dataclass(frozen=True)
class Running:
    """Tune gave a request's trial to the worker process in a place; number: STARTUP where it has no job."""

    number: int
    place: int
    actor: Any


@dataclass(frozen=True)
class Lost:
    """A request's trial ended without a result. cause: Ray's words."""

    number: int
    cause: str


@dataclass(frozen=True)
class NoWorker:
    """No worker came up, in any place, in STARTS attempts each. cause: Ray's words about the last."""

    cause: str


@dataclass(frozen=True)
class Broken:
    """Tune itself ended."""

    cause: str


class _Closed(Exception):
    """Nobody listens any more."""


@dataclass
class Mailbox:
    """Where the engine's thread and Tune's meet. waiting: tickets, None at the end. cause: of the last death."""

    waiting: Queue[JobRequest | None] = field(default_factory=Queue["JobRequest | None"])
    news: Queue[Any] = field(default_factory=Queue[Any])
    closed: bool = False
    cause: str = "no reason"

    def close(self) -> None:
        """Have Tune end as soon as it looks."""
        self.closed = True
        self.waiting.put(None)

    def __reduce__(self) -> tuple[type[Mailbox], tuple[()]]:
        return Mailbox, ()


class Place(PlacementGroupFactory):
    """What one worker takes. Two places are never the same to Tune, so that each keeps a worker of its own.

    Were they the same, Tune would give the worker that falls free to the trial whose own worker is starting, and end
    that one: with children shorter than a start-up a second worker would never come up.
    """

    def __init__(self, number: int, resources: Mapping[str, float]) -> None:
        self.number = number
        super().__init__([dict(resources)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


class Feed(Searcher):
    """Suggests the submitted jobs, as they come, each to a worker that is up and free.

    A trial without a job starts the worker of each place, at the beginning and after its death; a place whose worker
    died STARTS times in a row while it started is given up.
    """

    def __init__(self, mailbox: Mailbox, order: Order, workers: int) -> None:
        super().__init__()
        self._mailbox, self._order = mailbox, order
        self._cold = list(range(workers))
        self._free: list[int] = []
        self._live: dict[str, tuple[int, JobRequest]] = {}
        self._failed_starts: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> Any:
        """A worker's start, or the next job. Waits for one where nothing runs: Tune itself would look once a second."""
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
        """Count the place as free, or as one whose worker has to be started again."""
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
        """Nothing: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a fresh Tune run is fed from the ledger."""


class ResultCallback(TrialProgressCallback):
    """Passes on what workers report, and takes it out of what Tune keeps of a trial.

    It stands in for the callback that prints each trial's end, which Tune would add otherwise.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Tune's only way out that waits for no trial."""
        if self._mailbox.closed:
            raise _Closed

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A worker process takes the trial up."""
        actor = trial.temporary_state.ray_actor
        self._mailbox.news.put(Running(_request_of(trial).number, trial.config["place"], actor))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """A worker said something."""
        message: Started | Delivered | None = result.pop(MESSAGE, None)
        if message is not None:
            self._mailbox.news.put(message)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Nothing: what the worker said last was the end."""

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial's process died, or never came up."""
        try:
            cause = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        except (OSError, TypeError):
            cause = "for a reason that Ray did not tell"
        self._mailbox.cause = cause.strip()
        number = _request_of(trial).number
        if number != STARTUP:
            self._mailbox.news.put(Lost(number, cause.strip()))


class KeepWorkers(FIFOScheduler):
    """First come, first served, with the process of every place kept between generations.

    Tune stops all idle processes but one; starting the others again takes seconds. There is no public setting:
    where the attribute is gone, the search only gets slower.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: set[Any] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Have Tune keep one process for each place that it meets."""
        place = trial.placement_group_factory
        if place not in self._kept:
            self._kept.add(place)
            controller = getattr(tune_controller, "_tune_controller", tune_controller)
            cache = getattr(controller, "_actor_cache", None)
            if cache is not None:
                cache.increase_max(place, 1)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Any that waits: each has its own place. Tune's own looks through all trials of the run, each time."""
        return next((trial for trial in tune_controller.get_live_trials() if trial.status == "PENDING"), None)


def tune(mailbox: Mailbox, order: Order, workers: int, resources: Mapping[str, float], folder: Path) -> None:
    """Run Tune until the mailbox closes; says Broken when it ends.

    order: of every request. resources: what a worker takes. folder: for what Tune writes, to be deleted.
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
