"""Reading of a run while its driver may be running: without a lock, and without changing its files."""

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from nas.base.errors import RunError
from nas.ledger import sqlite
from nas.ledger.config_file import ConfigFile
from nas.ledger.curves import Points
from nas.ledger.leftovers import temporary_folder
from nas.ledger.opening import check_folder, check_study, edits_of, notes_of, open_study
from nas.ledger.records import record_of, records_of, stored_reached
from nas.ledger.sample import sample_from
from nas.ledger.shared import Place, Shared, place_of
from nas.ledger.study import Study, guarded
from nas.ledger.types import TrialRecord
from nas.ledger.view import LedgerView, view_of

TRIES = 20
T = TypeVar("T")


def read(run: Path) -> LedgerView:
    """Read the ledger of `run`, whether its driver is writing, has ended or was killed.

    Raises RunError if `run` is not a run, LedgerDamaged if its record differs from what was written.
    """
    return _opened(run, lambda study, _: view_of(records_of(study.entries()), notes_of(study)))


def read_with_curves(run: Path) -> tuple[LedgerView, Mapping[str, Points]]:
    """As `read`, and the learning curve of each trial that has one, by its key: (step, training loss)."""

    def both(study: Study, _: ConfigFile) -> tuple[LedgerView, Mapping[str, Points]]:
        view, curves = view_of(records_of(study.entries()), notes_of(study)), study.curves()
        return view, {r.key: curves[r.number] for r in view.trials if r.number in curves}

    return _opened(run, both)


def examine(run: Path) -> tuple[LedgerView, tuple[str, ...], Mapping[str, str]]:
    """Return (view, faults, pauses): as `read`, but a trial that can't be read is left out and described in `faults`.

    pauses: the digests of the checkpoints from which running trials may continue, each with its trial's key. Raises
    RunError or LedgerDamaged if nothing can be read.
    """
    return _opened(run, _examined)


def _examined(study: Study, config: ConfigFile) -> tuple[LedgerView, tuple[str, ...], Mapping[str, str]]:
    records: dict[str, TrialRecord] = {}
    pauses: dict[str, str] = {}
    faults: list[str] = []
    edits = edits_of(study, config)
    if edits and not any(set(edits) <= set(known) for known in notes_of(study).forced):
        faults.append(f"config.json was changed after the run was created ({'; '.join(edits)})")
    for entry in study.entries():
        try:
            record = record_of(entry)
            if record is not None and record.result is not None and record.result.sample:
                sample_from(record.result.sample)
        except (ValueError, TypeError, RecursionError) as error:
            faults.append(f"trial number {entry.number} is damaged ({error})")
            continue
        try:
            stored = stored_reached(entry, record.job) if record is not None else ()
            if record is not None and record.running:
                pauses |= {d: record.key for pause in stored for d in pause.checkpoints}
        except (ValueError, TypeError, RecursionError) as error:
            faults.append(f"the progress of trial number {entry.number} is damaged ({error})")
        if record is not None and record.key in records:
            faults.append(f"two trials have the place {record.key}")
        elif record is not None:
            records[record.key] = record
    return view_of(records.values(), notes_of(study)), tuple(faults), pauses


def _opened(run: Path, what: Callable[[Study, ConfigFile], T]) -> T:
    """Return `what` of the run's study and configuration; the study is opened without changing the run."""
    config, path = check_folder(run), place_of(run)

    def within(place: Place, mode: str) -> T:
        with closing(open_study(place, mode)) as study:
            check_study(run, config, study)
            with guarded(place):
                return what(study, config)

    if isinstance(path, Shared) or not _rolls_back(path):
        return within(path, sqlite.READ)
    with temporary_folder("nas-ledger-") as folder:
        return within(_copy(path, folder), sqlite.WRITE)


def _rolls_back(path: Path) -> bool:
    """Return whether a dead driver left a transaction to roll back, which needs write access."""
    with guarded(path), closing(sqlite.connect(path, sqlite.READ)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if not sqlite.needs_rollback(error):
                raise
            return True
    return False


def _copy(path: Path, folder: Path) -> Path:
    """Copy the database and its journal at a time when neither changes."""
    files = (path, path.with_name(path.name + "-journal"))
    for _ in range(TRIES):
        before = [_stamp(file) for file in files]
        for file in files:
            copy = folder / file.name
            copy.unlink(missing_ok=True)
            if file.exists():
                shutil.copyfile(file, copy)
        if before == [_stamp(file) for file in files]:
            return folder / path.name
    raise RunError(f"{path} changed during each of {TRIES} attempts to read it; try again")


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
