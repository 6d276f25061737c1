"""The Optuna study that stores the trials; apart from the move sampler `tpe`, the only user of optuna.

Optuna is the format of the record, so that its dashboard and plots can open a run; it decides nothing. The storage's
interface is used rather than `Study`: a trial appears with its job in one transaction, and no sampler or pruner is
ever called. Optuna is imported only when a study is opened: workers, which handle only jobs and checkpoints, start
without it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from nas.base.errors import NasError, RunError
from nas.base.machine import uncollected
from nas.ledger import shared, sqlite
from nas.ledger.curves import Points, add_points, curves_of
from nas.ledger.entries import Entry, entries_of
from nas.ledger.shared import Place, Shared
from nas.ledger.types import Job, Kind

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy.engine import ExceptionContext

    from nas.ledger.lease import Lease

NAME = "search"
NO_MOVE, SEVERAL, OTHER = "none", "several", "other"
METRIC_NAMES = "study:metric_names"  # Optuna's attribute of a study


def build(
    place: Place, attributes: Mapping[str, Any], lower: bool = False, objective: str | None = None
) -> None:
    """Create an empty study at `place`; if that is a file, the caller makes it durable. Raises RunError.

    lower: whether a lower objective value is better. objective: its name, for the dashboard.
    """
    from optuna.study import StudyDirection

    with guarded(place):
        storage = _storage(place, sqlite.BUILD)
        with quiet():  # Optuna announces each new study on stderr
            direction = StudyDirection.MINIMIZE if lower else StudyDirection.MAXIMIZE
            study = storage.create_new_study([direction], _name(place))
        for name, value in attributes.items():
            storage.set_study_user_attr(study, name, value)
        if objective is not None:
            storage.set_study_system_attr(study, METRIC_NAMES, [objective])
        _dispose(storage)


class Study:
    """The study of an existing database, checked before anything is read from it.

    Every method raises RunError or LedgerDamaged; sqlite3.Error only where `check` is documented to.
    """

    def __init__(self, place: Place, mode: str, lease: Lease | None = None) -> None:
        """lease: needed to write to a shared database."""
        self.place = place
        with guarded(place):
            self._storage = _storage(place, mode)
            if lease is not None:
                lease.fence(self._storage.engine)
            self._study = self._storage.get_study_id_from_name(_name(place))
            self.attributes: Mapping[str, Any] = self._storage.get_study_user_attrs(self._study)
        self._ids: dict[int, int] = {}  # trial number → trial id

    def entries(self) -> tuple[Entry, ...]:
        """Return all trials, in the order of their numbers."""
        with guarded(self.place), uncollected(), self._storage.engine.connect() as connection:
            return entries_of(connection, self._study)

    def entry(self, number: int) -> Entry:
        """Return one trial."""
        with guarded(self.place):
            return _entry(self._storage.get_trial(self._id(number)))

    def annotate(self, name: str, value: Any) -> None:
        """Write an attribute of the study, in one transaction."""
        with guarded(self.place):
            self._storage.set_study_user_attr(self._study, name, value)
        self.attributes = {**self.attributes, name: value}

    def add(self, job: Job, attributes: Mapping[str, Any]) -> int:
        """Add a running trial with `attributes` in one transaction, and return its number."""
        from optuna.trial import TrialState, create_trial

        values, distributions = _parameters(job, tuple(self.attributes.get("moves", ())))
        with guarded(self.place):
            template = create_trial(
                state=TrialState.RUNNING,
                params=values,
                distributions=distributions,
                user_attrs=dict(attributes),
            )
            with _one_commit(self.place, self._storage):
                trial = self._storage.create_new_trial(self._study, template)
            number = self._storage.get_trial_number_from_id(trial)
        self._ids[number] = trial
        return number

    def write(self, number: int, name: str, value: Any) -> None:
        """Write an attribute of a running trial, in one transaction."""
        with guarded(self.place):
            self._storage.set_trial_user_attr(self._id(number), name, value)

    def curve(self, points: Mapping[int, Points]) -> None:
        """Add points to the curves of trials, by their number, in one transaction."""
        with guarded(self.place):
            ids = {number: self._id(number) for number in points}
            with self._storage.engine.begin() as connection:
                for number, new in points.items():
                    add_points(connection, ids[number], new)

    def curves(self) -> Mapping[int, tuple[tuple[int, float], ...]]:
        """Return the curves of all trials, by their number."""
        with guarded(self.place), self._storage.engine.connect() as connection:
            return curves_of(connection, self._study)

    def complete(self, number: int, value: float) -> None:
        """End a running trial with its objective value, in one transaction."""
        from optuna.trial import TrialState

        with guarded(self.place):
            self._storage.set_trial_state_values(self._id(number), TrialState.COMPLETE, [value])

    def fail(self, number: int) -> None:
        """End a running trial without a value, in one transaction."""
        from optuna.trial import TrialState

        with guarded(self.place):
            self._storage.set_trial_state_values(self._id(number), TrialState.FAIL)

    def close(self) -> None:
        """Close the connections."""
        _dispose(self._storage)

    def _id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(self._study, number)
        return self._ids[number]


@contextmanager
def guarded(place: Place) -> Generator[None]:
    """Turn every error of the layers below into RunError or LedgerDamaged."""
    try:
        yield
    except NasError:
        raise
    except Exception as error:  # a damaged file makes SQLAlchemy and Optuna raise almost anything
        raise _explained(place, error) from error


def _explained(place: Place, error: BaseException) -> RunError:
    return shared.explain(place, error) if isinstance(place, Shared) else sqlite.explain(place, error)


@contextmanager
def _one_commit(place: Place, storage: RDBStorage) -> Generator[None]:
    """Keep Optuna from adding a trial again after a failed commit.

    The commit may have taken effect (if only the sync of the folder failed, or the connection was lost); then the trial
    would exist twice.
    """
    from sqlalchemy import event

    committing = False
    failures: list[BaseException] = []

    def commit(_: object) -> None:
        nonlocal committing
        if failures:
            raise _explained(place, failures[0])
        committing = True

    def failed(context: ExceptionContext) -> None:
        if committing:
            failures.append(context.sqlalchemy_exception or context.original_exception)

    event.listen(storage.engine, "commit", commit)
    event.listen(storage.engine, "handle_error", failed)
    try:
        yield
    finally:
        event.remove(storage.engine, "commit", commit)
        event.remove(storage.engine, "handle_error", failed)


@contextmanager
def quiet(least: int = logging.ERROR) -> Generator[None]:
    """Keep Optuna from writing messages below the level `least` to stderr; its errors are raised as exceptions."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(least)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _name(place: Place) -> str:
    return place.study if isinstance(place, Shared) else NAME


def _storage(place: Place, mode: str) -> RDBStorage:
    from optuna.storages import RDBStorage

    if isinstance(place, Shared):
        url, settings = place.url, place.engine_settings(mode == sqlite.BUILD)
    else:  # only `creator` gets the path: in the URL, Optuna would fill in braces, and '?' would start the options
        url, settings = "sqlite:///ledger.db", {"creator": partial(sqlite.connect, place, mode)}
    return RDBStorage(
        url,
        engine_kwargs=settings,
        skip_compatibility_check=mode == sqlite.READ,
        skip_table_creation=mode != sqlite.BUILD,
    )


def _dispose(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _entry(trial: FrozenTrial) -> Entry:
    finished = trial.datetime_complete
    if trial.datetime_start is None:
        raise ValueError(f"trial {trial.number} has no start time")
    return Entry(
        number=trial.number,
        state=trial.state.name.lower(),
        attributes=trial.user_attrs,
        value=trial.value if trial.state.is_finished() else None,
        started=trial.datetime_start.timestamp(),
        finished=None if finished is None else finished.timestamp(),
    )


def _parameters(job: Job, moves: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return a trial's parameters for the dashboard.

    Few, since each is a row to load, with fixed categories, since Optuna rejects categories that change during a study.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    names = {part.partition("(")[0].strip() for part in job.moves.split(";") if part.strip()}
    move = NO_MOVE if not names else SEVERAL if len(names) > 1 else names.pop()
    choices = (NO_MOVE, *moves, SEVERAL, OTHER)
    values = {
        "kind": job.kind.value,
        "move": move if move in choices else OTHER,
        "generation": job.generation,
        **_sizes(job),
    }
    distributions: dict[str, BaseDistribution] = {
        "kind": CategoricalDistribution([kind.value for kind in Kind]),
        "move": CategoricalDistribution(choices),
        "generation": IntDistribution(0, 2**53),
        **{name: IntDistribution(1, 2**53, log=True) for name in _SIZES},
    }
    return values, {name: distributions[name] for name in values}


_SIZES = ("parameters", "multiply-adds", "depth")


def _sizes(job: Job) -> dict[str, int]:
    """Size, cost and depth of a job's network; empty if its graph can't be read."""
    import morphs
    from morphs.errors import MorphError

    try:
        graph = morphs.graph_from_json(job.graph)
        spent = morphs.cost(graph)
        return dict(zip(_SIZES, (max(1, n) for n in (spent.params, spent.macs, graph.depth)), strict=True))
    except MorphError:
        return {}
