"""The ledger of a run, with a single writer that holds a lock.

    RUN/config.json      the configuration and the versions
        ledger.db        an Optuna study (SQLite), or ledger.json: the study in a shared database
        lock             held by the driver
        checkpoints/     the store

Order of a trial: ask (the trial and its job appear in one transaction) → run → checkpoint durable → result
written → told. A process may die between any two of these: on opening, a trial without a result is returned to be
run again; a trial with a result and an intact checkpoint is told.

A long trial pauses from time to time: checkpoint durable → progress written. It can then continue from there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nas.base.errors import RunError
from nas.ledger import sqlite
from nas.ledger.config_file import ConfigFile, write_config
from nas.ledger.create import FORMAT, LEDGER, OBJECTIVE, leased, make
from nas.ledger.curves import Points
from nas.ledger.described import Described, described_from
from nas.ledger.driver_lock import Lock
from nas.ledger.entries import Entry
from nas.ledger.leftovers import clear
from nas.ledger.notes import DROPPED, PREFIX, Note, Notes, notes_from
from nas.ledger.opening import check_folder, check_study, edits_of, notes_of, open_study, original_of
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
from nas.ledger.run_files import check_run
from nas.ledger.scores import chosen
from nas.ledger.shared import Shared, is_run, place_of
from nas.ledger.store import Store
from nas.ledger.study import Study, guarded
from nas.ledger.types import Job, Reached, Result, TrialRecord
from nas.ledger.view import LedgerView, view_of

if TYPE_CHECKING:
    from nas.ledger.lease import Lease

LOCK, CHECKPOINTS = "lock", "checkpoints"
MAX_REASON = 20_000
PAUSES = 2  # pauses kept of a running trial: the latest, and the one before in case the latest is damaged


class Ledger:
    """The durable record of a run. Created by `create` or `open`; a context manager.

    store: the run's checkpoints. config: the run's configuration. Every method raises RunError if the disk fails and
    LedgerDamaged if the record differs from what was written.
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
        """Create a run in the folder `run`, which is created if needed.

        url: of a shared database for the trials; None: they are stored in a file in the folder. A crash leaves either a
        run or a folder that `create` accepts again. Raises RunError if the folder already has a run.
        """
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{run} can't be created ({error.strerror}); choose another folder") from None
        lock = Lock(run / LOCK)
        with _closing_on_error(lock):
            check_run(run, writes=True)
            clear(run)  # what killed processes left
            if is_run(run):
                raise RunError(f"{run} is already a run; resume it or choose another folder")
            made = write_config(run, config)
            make(run, made, url)
            return cls._opened(run, lock, made)

    @classmethod
    def open(cls, run: Path, *, force: bool = False) -> Self:
        """Open the run in the folder `run`, to continue it.

        Tells the trials that have a result but were not told yet; see `interrupted` for those that must run again.
        force: accept a configuration that was edited after the run was created. Raises RunError if `run` is not a run,
        is in use, or its configuration changed.
        """
        config = check_folder(run)
        lock = Lock(run / LOCK)
        with _closing_on_error(lock):
            check_run(run, writes=True)
            clear(run)  # what killed processes left
            return cls._opened(run, lock, config, force=force)

    @classmethod
    def _opened(cls, run: Path, lock: Lock, config: ConfigFile, *, force: bool = False) -> Self:
        place = place_of(run)
        if isinstance(place, Shared):  # check first, so that nothing is written to another run's database
            study = open_study(place, sqlite.READ)
            with closing(study):
                check_study(run, config, study)
        lease = leased(place, run / LOCK)
        with _closing_on_error(lease):
            study = open_study(place, sqlite.WRITE, lease)
        with _closing_on_error(lease), _closing_on_error(study):
            check_study(run, config, study)
            edits = edits_of(study, config)
            if edits and not force:
                raise RunError(
                    f"{run}: config.json was changed after the run was created ({'; '.join(edits)}); restore it or "
                    f"start a new run"
                )
            ledger = cls(run, lock, config, study, lease)
            ledger.store.make()
            ledger._recover()
        return ledger

    def view(self) -> LedgerView:
        """Return what the ledger contains now."""
        return view_of(self._records.values(), self.notes)

    @property
    def original(self) -> Described:
        """The configuration with which the run was created, if the ledger has it, else that of config.json."""
        with guarded(self._study.place):
            original = original_of(self._study)
            return self.config.described if original is None else described_from(original)

    @property
    def edits(self) -> tuple[str, ...]:
        """Descriptions of what was changed in config.json after the run was created."""
        return edits_of(self._study, self.config)

    @property
    def notes(self) -> Notes:
        """What `note` wrote, in this process or an earlier one."""
        return self._notes

    def note(self, name: Note, value: Any) -> None:
        """Store a JSON value about the run as a whole, such as its wall time. Durable when this returns."""
        self._annotate(name, value)

    def _annotate(self, name: str, value: Any) -> None:
        self._lock.check()
        notes = notes_from({**self._study.attributes, PREFIX + name: value})
        self._study.annotate(PREFIX + name, value)
        self._notes = notes

    def interrupted(self) -> tuple[tuple[int, Job], ...]:
        """Return (number, job) of the trials that an earlier process left running, in order of place, to run again."""
        left = [self._records[number] for number in self._interrupted if self._records[number].running]
        return tuple((record.number, record.job) for record in view_of(left).trials)

    def ask(self, job: Job) -> int:
        """Start a trial and return its number. Durable when this returns. Raises RunError if its place is taken."""
        if any(record.key == job.key for record in self._records.values()):
            raise RunError(
                f"ask: trial {job.key} is already in the ledger of {self.run}; ask for another slot"
            )
        self._lock.check()
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

        Raises RunError if the trial is not running, or if its checkpoint has not been put into the store.
        """
        record = self._running(number, "tell")
        for digest in result.checkpoints:
            if not self.store.has(digest):
                fact = f"checkpoint {digest[:12]} is not in {self.store.folder}"
                raise RunError(f"tell: trial {record.key}: {fact}; put the network there first")
        self._upgrade()
        self._study.write(number, RESULT, seal(RESULT, record.key, result.to_dict()))
        self._finish(record, result)

    def fail(self, number: int, reason: str) -> None:
        """End a running trial without a result and store the reason (its first 20 000 characters)."""
        record = self._running(number, "fail")
        self._study.write(number, REASON, seal(REASON, record.key, reason[:MAX_REASON]))
        self._study.fail(number)
        self._reread(number)

    def advance(self, number: int, reached: Reached) -> None:
        """Store the progress of a running trial. Durable when this returns.

        Raises RunError if the trial is not running, or if a checkpoint has not been put into the store.
        """
        record = self._running(number, "advance")
        for digest in reached.checkpoints:
            if not self.store.has(digest):
                fact = f"checkpoint {digest[:12]} is not in {self.store.folder}"
                raise RunError(f"advance: trial {record.key}: {fact}; put the network there first")
        kept = (reached, *self._reached.get(number, ()))[:PAUSES]
        self._upgrade()
        self._study.write(number, REACHED, seal(REACHED, record.key, [pause.to_dict() for pause in kept]))
        self._reached[number] = kept

    def curve(self, points: Mapping[int, Points]) -> None:
        """Add points (step, training loss) to the learning curves of trials, by their number."""
        self._lock.check()
        self._study.curve(points)

    def reached(self, number: int) -> Reached | None:
        """Return the last pause of a running trial whose checkpoints are intact; None if there is none."""
        for pause in self._reached.get(number, ()):
            if all(map(self._intact, pause.checkpoints)):
                return pause
        return None

    def pauses(self) -> frozenset[str]:
        """Return the digests of the checkpoints from which running trials may continue."""
        running = (number for number, record in self._records.items() if record.running)
        kept = (pause for number in running for pause in self._reached.get(number, ()))
        return frozenset(digest for pause in kept for digest in pause.checkpoints)

    def drop(self, digests: Iterable[str], note: str) -> None:
        """Remove checkpoints on purpose; those of told trials are first recorded as removed, in the note `note`.

        After a crash a recorded checkpoint may still exist; that is not damage, and dropping it again removes it.
        """
        removed, view = sorted(digests), self.view()
        told = [digest for digest in removed if digest in view.checkpoints and digest not in view.dropped]
        if told:
            self._annotate(DROPPED + note, sorted({*self.notes.dropped.get(note, ()), *told}))
        for digest in removed:
            with suppress(OSError):  # tried again at the next call
                self.store.remove(digest)

    def close(self) -> None:
        """Release the lock. Further calls do nothing."""
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
        self._lock.check()
        record = self._records.get(number)
        if record is None:
            raise RunError(
                f"{verb}: the ledger of {self.run} has no trial number {number}; use one that ask returned"
            )
        if not record.running:
            raise RunError(f"{verb}: trial {record.key} is already {record.state}; a trial ends only once")
        return record

    def _finish(self, record: TrialRecord, result: Result) -> None:
        objective = self._study.attributes.get(OBJECTIVE) or result.main
        self._study.complete(record.number, chosen(result.scores, objective, result.main)[1])
        self._reread(record.number)

    def _reread(self, number: int) -> None:
        """Read one trial from the database again, so that memory is never ahead of the disk."""
        with guarded(self._study.place):
            record = record_of(self._study.entry(number))
        if record is not None:
            self._records[number] = record

    def _recover(self) -> None:
        """Load the trials and finish what a dead process left unfinished."""
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
        if record is None:  # the process died between asking and writing the job
            self._study.fail(entry.number)
            return
        self._reached[entry.number] = _pauses(entry, record.job)
        with guarded(self._study.place):
            result, reason = stored_result(entry, record.job), stored_reason(entry, record.job)
        if result is not None and all(map(self._intact, result.checkpoints)):
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
    """Return the pauses of an interrupted trial; none if they are damaged: it can also run again from its start."""
    try:
        return stored_reached(entry, job)
    except (ValueError, TypeError, RecursionError):
        return ()


@contextmanager
def _closing_on_error(resource: Lock | Study | Lease | None) -> Generator[None]:
    try:
        yield
    except BaseException:
        if resource is not None:
            resource.close()
        raise
