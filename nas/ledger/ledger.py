"""The ledger of a run: its only writer, under a lock.

    RUN/config.json      the configuration and the versions
        ledger.db        an Optuna study (SQLite), or ledger.json: which study of which shared database
        lock             held by the driver
        checkpoints/     the store

A long trial pauses now and then: checkpoint durable → progress written; it then goes on from there.

Order of a trial: ask (the trial and its job appear in one transaction) → run → checkpoint durable → result
written → told. A process may die between any two of these: a trial without a result is handed back to be
run again, one with a result whose checkpoint is intact is told on opening.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from nas.base.errors import LedgerDamaged, RunError
from nas.ledger import sqlite
from nas.ledger.config_file import ConfigFile, differences, read_config, write_config
from nas.ledger.create import FORMAT, IDENTITY, LEDGER, ORIGINAL, leased, make
from nas.ledger.files import canonical_json, sha256
from nas.ledger.lock import Lock
from nas.ledger.notes import DROPPED, PREFIX, Note, Notes, notes_from
from nas.ledger.records import (
    REACHED,
    REASON,
    RESULT,
    job_attributes,
    record_of,
    records_of,
    seal,
    stored_reached,
    stored_reason,
    stored_result,
)
from nas.ledger.shared import FILE as DATABASE
from nas.ledger.shared import POINTER, Place, Shared, is_run, place_of
from nas.ledger.store import Store
from nas.ledger.study import Entry, Study, guarded
from nas.ledger.types import Job, Reached, Result, State, TrialRecord
from nas.ledger.view import LedgerView, score, view_of

if TYPE_CHECKING:
    from nas.ledger.lease import Lease

LOCK, CHECKPOINTS = "lock", "checkpoints"
MAX_REASON = 20_000
PAUSES = 2  # of a running trial that are kept: the newest, and the one before it in case that is damaged


class Ledger:
    """The durable record of a run. Made by `create` or `open`; a context manager.

    store: the run's checkpoints. config: what the run was made with. Every method raises RunError when the
    disk refuses and LedgerDamaged when the record is not what was written.
    """

    def __init__(
        self, run: Path, lock: Lock, config: ConfigFile, study: Study, lease: Lease | None = None
    ) -> None:
        """For `create` and `open`."""
        self.run, self.config = run, config
        self.store = Store(run / CHECKPOINTS)
        self._lock, self._study, self._lease = lock, study, lease
        self._notes = notes_of(study)
        self._records: dict[int, TrialRecord] = {}
        self._reached: dict[int, tuple[Reached, ...]] = {}
        self._interrupted: tuple[int, ...] = ()

    @classmethod
    def create(cls, run: Path, config: Mapping[str, Any], url: str | None = None) -> Self:
        """A new run in the folder `run`, which is made if need be.

        url: of a shared database that holds the trials; None: a file in the folder does. A crash leaves a run or a
        folder that `create` takes again. Raises RunError when there is a run.
        """
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{run} can't be made ({error.strerror}); choose another folder") from None
        lock = Lock(run / LOCK)
        with _closing_on_error(lock):
            if is_run(run):
                raise RunError(f"{run} is a run already; resume it or choose another folder")
            made = write_config(run, config)
            make(run, made, url)
            return cls._opened(run, lock, made)

    @classmethod
    def open(cls, run: Path, *, force: bool = False) -> Self:
        """The run in the folder `run`, to go on with it.

        Tells what was decided but not told yet; see `interrupted` for what has to run again.
        force: take a configuration that was edited after the run was made. Raises RunError when `run` is no
        run, is in use, or its configuration changed.
        """
        config = _check_folder(run)
        lock = Lock(run / LOCK)
        with _closing_on_error(lock):
            return cls._opened(run, lock, config, force=force)

    @classmethod
    def _opened(cls, run: Path, lock: Lock, config: ConfigFile, *, force: bool = False) -> Self:
        place = place_of(run)
        if isinstance(place, Shared):  # nothing is written into a database that is not the run's
            study = open_study(place, sqlite.READ)
            with closing(study):
                _check_study(run, config, study)
        lease = leased(place, run / LOCK)
        with _closing_on_error(lease):
            study = open_study(place, sqlite.WRITE, lease)
        with _closing_on_error(lease), _closing_on_error(study):
            _check_study(run, config, study)
            edits = edits_of(study, config)
            if edits and not force:
                raise RunError(
                    f"{run}: config.json was changed after the run was made ({'; '.join(edits)}); restore it or start "
                    f"a new run"
                )
            ledger = cls(run, lock, config, study, lease)
            ledger._recover()
        return ledger

    def view(self) -> LedgerView:
        """What the ledger holds now."""
        return view_of(self._records.values(), self.notes)

    @property
    def original(self) -> Mapping[str, Any]:
        """The configuration the run was made with, whatever config.json says now, where the ledger has it."""
        return _original_of(self._study) or self.config.config

    @property
    def edits(self) -> tuple[str, ...]:
        """What was changed in config.json after the run was made, in words."""
        return edits_of(self._study, self.config)

    @property
    def notes(self) -> Notes:
        """What `note` wrote, by this process or an earlier one."""
        return self._notes

    def note(self, name: Note, value: Any) -> None:
        """Keep a JSON value about the run as a whole, such as its wall time. Durable when this returns."""
        self._annotate(name, value)

    def _annotate(self, name: str, value: Any) -> None:
        notes = notes_from({**self._study.attributes, PREFIX + name: value})
        self._study.annotate(PREFIX + name, value)
        self._notes = notes

    def interrupted(self) -> tuple[tuple[int, Job], ...]:
        """(number, job) of the trials that a former process left running, to be run again, in order of place."""
        left = [self._records[number] for number in self._interrupted if self._records[number].running]
        return tuple((record.number, record.job) for record in view_of(left).trials)

    def ask(self, job: Job) -> int:
        """Start a trial: its number. Durable when this returns. Raises RunError when its place is taken."""
        if any(record.key == job.key for record in self._records.values()):
            raise RunError(f"ask: trial {job.key} is in the ledger of {self.run}; ask for another slot")
        try:
            attributes = job_attributes(job)
        except (ValueError, TypeError) as error:
            raise RunError(f"ask: trial {job.key}: {error}; give a smaller job") from None
        self._upgrade()
        number = self._study.add(job, attributes)
        self._reread(number)
        return number

    def tell(self, number: int, result: Result) -> None:
        """End a running trial with its result. Durable when this returns.

        Raises RunError when the trial isn't running or the checkpoint isn't in the store: it goes there first.
        """
        record = self._running(number, "tell")
        if not self.store.has(result.weights):
            fact = f"checkpoint {result.weights[:12]} is not in {self.store.folder}"
            raise RunError(f"tell: trial {record.key}: {fact}; put the network there first")
        self._upgrade()
        self._study.write(number, RESULT, seal(RESULT, record.key, result.to_dict()))
        self._finish(record, result)

    def fail(self, number: int, reason: str) -> None:
        """End a running trial without a result and keep the reason (its first 20 000 characters)."""
        record = self._running(number, "fail")
        self._study.write(number, REASON, seal(REASON, record.key, reason[:MAX_REASON]))
        self._study.fail(number)
        self._reread(number)

    def advance(self, number: int, reached: Reached) -> None:
        """Keep how far a running trial has come. Durable when this returns.

        Raises RunError when the trial isn't running or a checkpoint isn't in the store: they go there first.
        """
        record = self._running(number, "advance")
        for digest in (reached.weights, reached.momentum):
            if not self.store.has(digest):
                fact = f"checkpoint {digest[:12]} is not in {self.store.folder}"
                raise RunError(f"advance: trial {record.key}: {fact}; put the network there first")
        kept = (reached, *self._reached.get(number, ()))[:PAUSES]
        self._upgrade()
        self._study.write(number, REACHED, seal(REACHED, record.key, [pause.to_dict() for pause in kept]))
        self._reached[number] = kept

    def reached(self, number: int) -> Reached | None:
        """How far a running trial has come: the last of its pauses whose checkpoints are intact."""
        for pause in self._reached.get(number, ()):
            if self._intact(pause.weights) and self._intact(pause.momentum):
                return pause
        return None

    def pauses(self) -> frozenset[str]:
        """Digests of the checkpoints that running trials may go on from."""
        running = (number for number, record in self._records.items() if record.running)
        kept = (pause for number in running for pause in self._reached.get(number, ()))
        return frozenset(digest for pause in kept for digest in (pause.weights, pause.momentum))

    def drop(self, digests: Iterable[str], note: str) -> None:
        """Remove checkpoints on purpose, those of told trials recorded as removed first, under the note `note`.

        A crash leaves them recorded and there, or gone: neither is damage, and dropping them again removes them.
        """
        gone, view = sorted(digests), self.view()
        told = [digest for digest in gone if digest in view.checkpoints and digest not in view.dropped]
        if told:
            self._annotate(DROPPED + note, sorted({*self.notes.dropped.get(note, ()), *told}))
        for digest in gone:
            with suppress(OSError):  # it is tried again with the next ones
                self.store.remove(digest)

    def close(self) -> None:
        """Free the lock; again does nothing."""
        self._study.close()
        if self._lease is not None:
            self._lease.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _upgrade(self) -> None:
        """Before the first write in the present format: mark the ledger, so that older versions refuse it by name."""
        known = self._study.attributes[LEDGER]
        if known["format"] != FORMAT:
            self._study.annotate(LEDGER, {**known, "format": FORMAT})

    def _running(self, number: int, verb: str) -> TrialRecord:
        record = self._records.get(number)
        if record is None:
            raise RunError(
                f"{verb}: the ledger of {self.run} has no trial number {number}; use one that ask gave"
            )
        if not record.running:
            raise RunError(f"{verb}: trial {record.key} is {record.state} already; a trial ends once")
        return record

    def _finish(self, record: TrialRecord, result: Result) -> None:
        told = replace(record, state=State.COMPLETE, result=result)
        self._study.complete(record.number, score(told))
        self._reread(record.number)

    def _reread(self, number: int) -> None:
        """Take one trial as the database has it: memory never says more than the disk."""
        with guarded(self._study.place):
            record = record_of(self._study.entry(number))
        if record is not None:
            self._records[number] = record

    def _recover(self) -> None:
        """Bring what a dead process left into order."""
        entries = self._study.entries()
        with guarded(self._study.place):
            self._records = {record.number: record for record in records_of(entries)}
        for entry in entries:
            if entry.state == "running":
                self._recover_running(entry)
        running = [number for number, record in self._records.items() if record.running]
        self._interrupted = tuple(running)
        self.store.sweep()

    def _recover_running(self, entry: Entry) -> None:
        record = self._records.get(entry.number)
        if record is None:  # it died between asking and writing the job
            self._study.fail(entry.number)
            return
        self._reached[entry.number] = _pauses(entry, record.job)
        with guarded(self._study.place):
            result, reason = stored_result(entry, record.job), stored_reason(entry, record.job)
        if result is not None and self._intact(result.weights):
            self._finish(record, result)
        elif reason is not None:
            self._study.fail(entry.number)
            self._reread(entry.number)

    def _intact(self, digest: str) -> bool:
        try:
            self.store.verify(digest)
        except RunError:
            return False
        return True


def _pauses(entry: Entry, job: Job) -> tuple[Reached, ...]:
    """How far an interrupted trial had come; nowhere, where that is damaged: from its start it ends as well."""
    try:
        return stored_reached(entry, job)
    except (ValueError, TypeError, RecursionError):
        return ()


def notes_of(study: Study) -> Notes:
    """The notes of a run. Raises LedgerDamaged where one is not what a driver writes."""
    with guarded(study.place):
        return notes_from(study.attributes)


def open_study(place: Place, mode: str, lease: Lease | None = None) -> Study:
    """The study of a checked database. Raises RunError or LedgerDamaged."""
    if not isinstance(place, Shared):  # a server checks its own
        with guarded(place):
            sqlite.check(place, mode)
    return Study(place, mode, lease)


@contextmanager
def _closing_on_error(resource: Lock | Study | Lease | None) -> Generator[None]:
    try:
        yield
    except BaseException:
        if resource is not None:
            resource.close()
        raise


def _check_folder(run: Path) -> ConfigFile:
    if not run.is_dir():
        raise RunError(f"{run} is no run: there is no such folder; give the folder of a run")
    config = read_config(run)
    if not is_run(run):
        raise RunError(f"{run} is no run: {DATABASE} is missing; restore it from a copy or start a new run")
    return config


def edits_of(study: Study, config: ConfigFile) -> tuple[str, ...]:
    """How config.json differs from what a run was made with, in words."""
    if study.attributes[LEDGER]["config"] == config.digest:
        return ()
    original = _original_of(study)
    return (
        differences(original, config.config) if original else ("config.json was changed, where is unknown",)
    )


def _original_of(study: Study) -> Mapping[str, Any] | None:
    """The configuration a run was made with; None in a ledger of an older version, or where it was tampered with."""
    original: Any = study.attributes.get(ORIGINAL)
    if (
        not isinstance(original, dict)
        or sha256(canonical_json(original)) != study.attributes[LEDGER]["config"]
    ):
        return None
    return cast("dict[str, Any]", original)


def _check_study(run: Path, config: ConfigFile, study: Study) -> None:
    """Check that a study is a ledger of ours, and of this run."""
    place, known = study.place, study.attributes.get(LEDGER)
    if not isinstance(known, dict) or set(known) != {"format", "config"}:  # pyright: ignore[reportUnknownArgumentType]
        raise LedgerDamaged(sqlite.damage(place, "it is the study of another program"))
    if known["format"] not in (1, FORMAT):
        raise RunError(
            f"{place} has format {known['format']!r:.20}, not {FORMAT}; use the version that wrote it"
        )
    if study.attributes.get(IDENTITY) != config.run:
        named = POINTER if isinstance(place, Shared) else DATABASE
        raise RunError(
            f"{run} and {place} belong to two runs; restore config.json and {named} from one copy of the run"
        )


def check_run(run: Path, study: Study) -> None:
    """Check that a study opened for reading is the run's ledger; its configuration may have been edited."""
    _check_study(run, _check_folder(run), study)
