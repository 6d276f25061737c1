"""The driver's side of Ray Tune: one Tune run for each driver, fed from the ledger, never the truth.

Tune calls these from its own thread; they only pass on what they hear. Tune pickles them where it would keep a
state to restore, which we never do: they pickle as empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner, with_resources
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nas.ray.ticket import Delivered, Started, Ticket
from nas.ray.worker import MESSAGE, train_child


@dataclass(frozen=True)
class Running:
    """Tune gave a ticket's trial to a worker process."""

    number: int
    actor: Any


@dataclass(frozen=True)
class Lost:
    """A ticket's trial ended without a result. cause: Ray's words."""

    number: int
    cause: str


@dataclass(frozen=True)
class Broken:
    """Tune itself ended."""

    cause: str


class _Closed(Exception):
    """Nobody listens any more."""


@dataclass
class Desk:
    """Where the engine's thread and Tune's meet. waiting: tickets to start, None at the end."""

    waiting: Queue[Ticket | None] = field(default_factory=Queue["Ticket | None"])
    news: Queue[Any] = field(default_factory=Queue[Any])
    closed: bool = False

    def close(self) -> None:
        """Have Tune end as soon as it looks."""
        self.closed = True
        self.waiting.put(None)

    def __reduce__(self) -> tuple[type[Desk], tuple[()]]:
        return Desk, ()


class Feed(Searcher):
    """Suggests the submitted jobs, as they come."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next job. Waits for one where nothing runs: Tune itself would look once a second."""
        if self._live and self._desk.waiting.empty():
            return None
        ticket = self._desk.waiting.get()
        if ticket is None or self._desk.closed:
            return Searcher.FINISHED
        self._live.add(trial_id)
        return {"ticket": ticket}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Count the trial as ended."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a fresh Tune run is fed from the ledger."""


class Herald(TrialProgressCallback):
    """Passes on what workers report, and takes it out of what Tune keeps of a trial.

    It stands in for the callback that prints each trial's end, which Tune would add otherwise.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Tune's only way out that waits for no trial."""
        if self._desk.closed:
            raise _Closed

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A worker process takes the trial up."""
        self._desk.news.put(Running(_number(trial), trial.temporary_state.ray_actor))

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """A worker said something."""
        message: Started | Delivered | None = result.pop(MESSAGE, None)
        if message is not None:
            self._desk.news.put(message)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Nothing: what the worker said last was the end."""

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial's process died, or never came up."""
        try:
            cause = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        except (OSError, TypeError):
            cause = "for a reason that Ray did not tell"
        self._desk.news.put(Lost(_number(trial), cause.strip()))


class KeepWorkers(FIFOScheduler):
    """First come, first served, with `workers` processes kept between generations.

    Tune stops all idle processes but one; starting the others again takes seconds. There is no public setting:
    where the attribute is gone, the search only gets slower.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        self._kept = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Raise what Tune keeps, once it is known which resources a trial takes."""
        if not self._kept:
            self._kept = True
            controller = getattr(tune_controller, "_tune_controller", tune_controller)
            cache = getattr(controller, "_actor_cache", None)
            if cache is not None:
                cache.increase_max(trial.placement_group_factory, self._workers)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that waits. Tune's own looks through all trials of the run, ten times a second."""
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == "PENDING"]
        return min(waiting, key=_number, default=None)


def tune(desk: Desk, workers: int, resources: dict[str, float], folder: Path) -> None:
    """Run Tune until the desk closes; says Broken when it ends. folder: for what Tune writes, to be deleted."""
    try:
        Tuner(
            with_resources(train_child, resources),
            tune_config=TuneConfig(
                search_alg=Feed(desk),
                scheduler=KeepWorkers(workers),
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                callbacks=[Herald(desk)],
                failure_config=FailureConfig(max_failures=0),
            ),
        ).fit()
        desk.news.put(Broken("it ended"))
    except BaseException as error:
        desk.news.put(Broken(f"{type(error).__name__}: {error}".strip().splitlines()[-1]))


def _number(trial: Any) -> int:
    return int(trial.config["ticket"].number)
