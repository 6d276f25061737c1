"""The database file of the study: how it is opened, and the checks before anything is read from it.

Our own connections use a rollback journal and `synchronous=EXTRA`: FULL, plus a durable removal of the journal. With
FULL alone, a power failure can restore the journal, which then rolls back committed results.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from nas.base.errors import LedgerDamaged, RunError
from nas.ledger.files import MAX_ATTRIBUTE_BYTES

BUSY_SECONDS = 60
MAX_TRIALS = 1_000_000
SUPER_JOURNAL = bytes.fromhex(
    "d9d505f920a163d7"
)  # the end of a journal that names one (SQLite's file format, 3)
MAX_PATH_BYTES = 504  # of a database: SQLite has place for 512 in the name of its journal
READ, WRITE, BUILD = "ro", "rw", "rwc"

_ATTRIBUTES = (
    ("trial_user_attributes", "value_json"),
    ("trial_system_attributes", "value_json"),
    ("study_user_attributes", "value_json"),
    ("study_system_attributes", "value_json"),
    ("trial_params", "distribution_json"),
)
# Errors of an intact file whose cause lies outside it, by primary result code, each with a remedy.
_PASSING = {
    sqlite3.SQLITE_BUSY: "another program has locked it; close that program",
    sqlite3.SQLITE_LOCKED: "another program has locked it; close that program",
    sqlite3.SQLITE_FULL: "the disk is full; free space and resume",
    sqlite3.SQLITE_IOERR: "the disk fails or is full; free space and resume",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; check the permissions of the folder",
    sqlite3.SQLITE_PERM: "it can't be opened; check its permissions",
    sqlite3.SQLITE_READONLY: "it can't be written; check its permissions",
}


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing file (READ, WRITE), or to a new one that is made durable later (BUILD)."""
    connection = _connected(path, mode)
    if mode == WRITE:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=EXTRA")
    elif mode == BUILD:
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute("PRAGMA synchronous=OFF")
    return connection


def connect_shared(path: Path, create: bool) -> sqlite3.Connection:
    """Connect to a file that a team shares, creating it if `create`. The team chooses its journal mode."""
    if path.exists() and not path.is_file():  # a FIFO would block for ever
        raise RunError(f"{path} is not a file; name the file of a database")
    connection = _connected(path, BUILD if create else WRITE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MAX_ATTRIBUTE_BYTES)  # nothing larger is read
    return connection


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    _refuse_super_journal(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def _refuse_super_journal(path: Path) -> None:
    """Raise LedgerDamaged if a journal beside the database names a file that SQLite would delete after a rollback.

    That is how SQLite commits to several databases at once, which a ledger never does.
    """
    journal = path.with_name(path.name + "-journal")
    if not journal.is_file():
        return
    with suppress(OSError), journal.open("rb") as file:
        file.seek(-len(SUPER_JOURNAL), os.SEEK_END)
        if file.read() == SUPER_JOURNAL:
            raise LedgerDamaged(damage(path, f"{journal.name} names another file, which would be deleted"))


def check(path: Path, mode: str) -> None:
    """Check that the file is an intact database of one study, with all sizes within the limits.

    Costs one pass over the file. Raises sqlite3.Error for what SQLite rejects, LedgerDamaged for the rest.
    """
    with closing(connect(path, mode)) as connection:
        for fact in _facts(connection):
            raise LedgerDamaged(damage(path, fact))
        pages, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
        if path.stat().st_size < pages * page:  # SQLite reads the missing part of the last page as zeros
            raise LedgerDamaged(damage(path, "it is truncated"))


def _facts(connection: sqlite3.Connection) -> list[str]:
    """Return the first thing that is wrong; empty for an intact file."""

    def number(query: str) -> int:
        return int(connection.execute(query).fetchone()[0] or 0)

    sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if sound != "ok":
        return [" ".join(str(sound).split())[:200]]
    if number("SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')"):
        return ["it has triggers or views, which a ledger never has"]
    for table in ("studies", "version_info", "alembic_version"):
        if number(f"SELECT count(*) FROM {table}") != 1:
            return [f"table {table} does not have exactly one row"]
    trials = number("SELECT count(*) FROM trials")
    if trials > MAX_TRIALS:
        return [f"it has more than {MAX_TRIALS} trials"]
    whole = "SELECT count(DISTINCT number) FROM trials WHERE typeof(number) = 'integer' AND number >= 0 AND number < "
    if number(whole + str(trials)) != trials:
        return ["trials are missing"]
    for table, column in _ATTRIBUTES:
        if number(f"SELECT max(length({column})) FROM {table}") > MAX_ATTRIBUTE_BYTES:
            return [f"an entry of {table} has more than {MAX_ATTRIBUTE_BYTES} characters"]
    return []


def damage(place: object, fact: str) -> str:
    """Return the message for a ledger that differs from what was written."""
    return f"{place} is damaged ({fact}); restore it from a copy or start a new run"


def explain(path: Path, error: BaseException) -> RunError:
    """Return the error to raise instead of one from SQLite, SQLAlchemy or Optuna.

    That is a plain RunError if the cause lies outside the file, else LedgerDamaged.
    """
    cause = _root(error)
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        length = len(os.fsencode(path.absolute()))
        if code == sqlite3.SQLITE_CANTOPEN and length > MAX_PATH_BYTES:
            limit = f"its whole path has {length} bytes, of which SQLite takes {MAX_PATH_BYTES}"
            return RunError(f"{path}: {limit}; choose a place with a shorter one")
        if code == sqlite3.SQLITE_CANTOPEN and not path.exists():
            return RunError(f"{path} is missing; restore it, or name the folder to which the run was moved")
        if code in _PASSING:
            return RunError(f"{path}: {cause}: {_PASSING[code]}")
    fact = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
    return LedgerDamaged(damage(path, fact))


def needs_rollback(error: BaseException) -> bool:
    """Return whether a read-only connection found an unfinished transaction of a dead writer."""
    code = getattr(_root(error), "sqlite_errorcode", 0)
    return code in (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)


def _root(error: BaseException) -> BaseException:
    """Return the innermost cause: the database driver's own error, if there is one."""
    while True:
        inner = getattr(error, "orig", None) or error.__cause__
        if not isinstance(inner, BaseException) or inner is error:
            return error
        error = inner
