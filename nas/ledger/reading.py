"""Reading a run beside its driver: no lock taken, no file made or changed in it."""

import shutil
import sqlite3
import tempfile
from pathlib import Path

from nas.errors import RunError
from nas.ledger import sqlite
from nas.ledger.config import read_config
from nas.ledger.ledger import DATABASE, check_run, notes_of, open_study
from nas.ledger.records import records_of
from nas.ledger.study import guarded
from nas.ledger.view import LedgerView, view_of

TRIES = 20


def read(run: Path) -> LedgerView:
    """What the ledger of `run` holds, whether a driver is writing, ended or was killed in the middle.

    Raises RunError when `run` is no run, LedgerDamaged when its record is not what was written.
    """
    read_config(run)
    path = run / DATABASE
    if not path.is_file():
        raise RunError(f"{run} is no run: {DATABASE} is missing; restore it from a copy or start a new run")
    if not _rolls_back(path):
        return _read(run, path)
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        return _read(run, _copy(path, Path(folder)), sqlite.WRITE)


def _read(run: Path, path: Path, mode: str = sqlite.READ) -> LedgerView:
    study = open_study(path, mode)
    try:
        check_run(run, study)
        with guarded(path):
            return view_of(records_of(study.entries()), notes_of(study))
    finally:
        study.close()


def _rolls_back(path: Path) -> bool:
    """Whether a dead driver left a transaction to roll back, which can't be done without writing."""
    with guarded(path):
        connection = sqlite.connect(path, sqlite.READ)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if not sqlite.needs_rollback(error):
                raise
            return True
        finally:
            connection.close()
    return False


def _copy(path: Path, folder: Path) -> Path:
    """A copy of the database and its journal, taken while neither changed."""
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
    raise RunError(f"{path} changes while it is read; try again")


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
