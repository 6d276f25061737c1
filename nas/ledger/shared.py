"""A ledger in a database that a team shares, instead of a file in the run's folder.

RUN/ledger.json      names the database and the study in it; the run exists once this file does
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints
from pydantic.dataclasses import dataclass as record

from nas.base.errors import LedgerDamaged, RunError, UserError
from nas.ledger import sqlite
from nas.ledger.files import atomic_write, parse_json, read_bounded
from nas.ledger.run_files import is_file
from nas.ledger.types import RECORD, validated

POINTER = "ledger.json"
FILE = "ledger.db"
MAX_POINTER_BYTES = 2**14
MAX_URL, MAX_STUDY = 2000, 512  # characters
CONNECT_SECONDS, ANSWER_SECONDS = 10, 60  # for a server to take a connection, and to answer
WATCHED = ("psycopg", "psycopg2")  # libraries that have no limit of their own for an answer
_DRIVERS = {
    "sqlite": ("pysqlite",),
    "postgresql": ("psycopg", "psycopg2", "pg8000"),
    "mysql": ("mysqldb", "pymysql", "mysqlconnector"),
    "mariadb": ("mysqldb", "pymysql", "mariadbconnector"),
}
# Other options select local files that the database's library reads, or sends to a server on request.
_OPTIONS = ("charset", "connect_timeout", "host", "port", "sslmode", "sslrootcert", "unix_socket")


@dataclass(frozen=True)
class Shared:
    """A study in a database. url: SQLAlchemy's, without a password. study: its name, which only this run uses."""

    url: str
    study: str

    def __str__(self) -> str:
        return f"study {self.study} of {self.url}"

    def engine_settings(self, create: bool = False) -> dict[str, Any]:
        """Return settings for SQLAlchemy: a connection for each transaction, so that a child process inherits none.
        No connection waits for ever for a server that says nothing.

        create: for a database in a file, create the file; otherwise the file must exist.
        """
        from sqlalchemy.engine import make_url
        from sqlalchemy.pool import NullPool

        url = make_url(self.url)
        if url.get_backend_name() != "sqlite":
            limits = _limits(url.get_driver_name())
            given = {name: value for name, value in limits.items() if name not in url.query}
            if url.get_driver_name() not in WATCHED:
                return {"poolclass": NullPool, "connect_args": given}
            from nas.ledger import watchdog

            # A connection is for one transaction, so it lives about as long as its answers take.
            return {"poolclass": NullPool, "creator": partial(watchdog.connect, url, given, ANSWER_SECONDS)}
        file = Path(str(url.database))
        return {"poolclass": NullPool, "creator": partial(sqlite.connect_shared, file, create)}


def _limits(driver: str) -> dict[str, int]:
    """Return the time limits of a connection, as the database's library `driver` calls them."""
    connect, answer = CONNECT_SECONDS, ANSWER_SECONDS
    if driver in ("psycopg", "psycopg2"):  # keepalives and the last: for a server that vanishes later
        return {
            "connect_timeout": connect, "keepalives": 1, "keepalives_idle": connect, "keepalives_interval": connect,
            "keepalives_count": 3, "tcp_user_timeout": 1000 * answer,
        }  # fmt: skip
    if driver == "pg8000":
        return {"timeout": answer}
    if driver == "mysqlconnector":
        return {"connection_timeout": connect}
    return {"connect_timeout": connect, "read_timeout": answer, "write_timeout": answer}


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has unprintable characters")
    return text


@record(frozen=True, config=RECORD)
class _Pointer:
    """RUN/ledger.json."""

    url: str
    study: Annotated[str, StringConstraints(min_length=1, max_length=MAX_STUDY), AfterValidator(_printable)]


Place = Path | Shared  # the place of a ledger: a file, or a study in a shared database


def place_of(run: Path) -> Place:
    """Return the place of the ledger of `run`. Raises RunError if the pointer to a shared database can't be read."""
    path = run / POINTER
    try:
        if not is_file(path):
            return run / FILE
        document = parse_json(read_bounded(path, MAX_POINTER_BYTES))
        known = validated(_Pointer, document, "it does not name a database and a study")
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror}); restore it from a copy") from None
    except ValueError as error:
        raise RunError(f"{path} can't be read ({error}); restore it from a copy") from None
    try:
        return Shared(checked_url(known.url), known.study)
    except UserError as error:
        raise RunError(f"{path}: {error}; restore it from a copy") from None


def is_run(run: Path) -> bool:
    """Return whether the folder has a ledger or points to one, as far as this user may see."""
    try:
        return is_file(run / FILE) or is_file(run / POINTER)
    except PermissionError:
        return False


def new_place(run: Path, url: str) -> Shared:
    """Return a study with a name that no other run uses."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in run.absolute().name)[:80]
    return Shared(checked_url(url), f"{name}-{secrets.token_hex(4)}")


def point(run: Path, place: Shared) -> None:
    """Make `run` a run whose ledger is at `place`. Durable when this returns."""
    text = json.dumps({"url": place.url, "study": place.study}, indent=2)
    atomic_write(run / POINTER, text.encode())


def checked_url(url: str) -> str:
    """Return `url` if it is of a known kind of database and without a password, since the run's folder will contain it.

    Raises UserError; the message never contains the URL.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    remedy = "write one like postgresql://user@host/name"
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(f"ledger: this is not the URL of a database; {remedy}") from None
    if (
        len(url) > MAX_URL or not url.isprintable() or "{" in url or "}" in url
    ):  # Optuna would fill in the braces
        raise UserError(f"ledger: the URL is too long, or has braces or unprintable characters; {remedy}")
    if parts.password is not None:
        raise UserError(
            "ledger: the URL has a password, which would be stored in the run's folder; remove it and put it where the "
            "database's library looks for it (~/.pgpass, PGPASSWORD)"
        )
    kind, _, driver = parts.drivername.partition("+")
    if kind not in _DRIVERS or (driver and driver not in _DRIVERS[kind]):
        raise UserError(
            f"ledger: the URL's kind of database is not supported; choose one of {', '.join(_DRIVERS)}"
        )
    if kind == "sqlite" and (parts.host or parts.query or parts.database in (None, "", ":memory:")):
        raise UserError("ledger: the URL does not name a file; write one like sqlite:////folder/team.db")
    other = sorted(name for name in parts.query if name not in _OPTIONS)
    if other:
        raise UserError(
            f"ledger: the URL has the option {other[0][:40]}, which is not allowed; remove it (allowed are "
            f"{', '.join(_OPTIONS)})"
        )
    return url


def explain(place: Shared, error: BaseException) -> RunError:
    """Return the error to raise instead of one from SQLAlchemy or Optuna."""
    from sqlalchemy.exc import DBAPIError, NoSuchModuleError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(
            cause, (DBAPIError, OSError)
        ):  # the latter from libraries that don't wrap a socket's errors
            fact = " ".join(str(cause.orig if isinstance(cause, DBAPIError) else cause).split())[:200]
            if "server closed the connection" in fact:  # the library can't tell who did
                fact = f"the server closed the connection, or did not answer within {ANSWER_SECONDS} s"
            return RunError(f"{place} can't be used ({fact}); fix that and run the command again")
        if isinstance(cause, (ImportError, NoSuchModuleError)):
            fact = " ".join(str(cause).split())[:200]
            return RunError(f"{place} can't be used ({fact}); install the library for that database")
        if isinstance(cause, RuntimeError):  # from Optuna: the tables are of another version
            fact = " ".join(str(cause).split())[:200]
            return RunError(
                f"{place} can't be used ({fact}); use another database, or the Optuna that made it"
            )
        cause = cause.__cause__
    if isinstance(error, KeyError):
        return RunError(f"{place}: the database has no such study; check {POINTER} in the run's folder")
    fact = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return LedgerDamaged(f"{place} is damaged ({fact}); restore the database from a copy or start a new run")
