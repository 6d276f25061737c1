"""A ledger in a database that a team shares, in place of a file in the run's folder: any that Optuna knows, by its URL.

RUN/ledger.json      which database, and which study in it: the run exists once that is there
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from nas.errors import LedgerDamaged, RunError, UserError
from nas.ledger.files import MAX_CONFIG_BYTES, atomic_write, parse_json, read_bounded

POINTER = "ledger.json"
FILE = "ledger.db"


@dataclass(frozen=True)
class Shared:
    """A study of a database. url: SQLAlchemy's, without a password. study: its name, the run's alone."""

    url: str
    study: str

    def __str__(self) -> str:
        return f"study {self.study} of {self.url}"

    @cached_property
    def engine_settings(self) -> dict[str, Any]:
        """For SQLAlchemy: a connection for each transaction, since a child of this process must inherit none."""
        from sqlalchemy.pool import NullPool

        return {"poolclass": NullPool}


Place = Path | Shared  # where a ledger lies: a file, or a study of a shared database


def place_of(run: Path) -> Place:
    """Where the ledger of `run` lies. Raises RunError where the pointer to a shared database can't be read."""
    path = run / POINTER
    if not path.exists():
        return run / FILE
    try:
        document = parse_json(read_bounded(path, MAX_CONFIG_BYTES))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read ({error}); restore it from a copy") from None
    known = cast(dict[str, Any], document) if isinstance(document, dict) else {}
    url, study = known.get("url"), known.get("study")
    if not isinstance(url, str) or not isinstance(study, str):
        raise RunError(f"{path} names no database and study; restore it from a copy")
    return Shared(checked_url(url), study)


def is_run(run: Path) -> bool:
    """Whether the folder has a ledger, or points to one."""
    return (run / FILE).is_file() or (run / POINTER).is_file()


def new_place(run: Path, url: str) -> Shared:
    """A study that no other run has."""
    return Shared(checked_url(url), f"{run.absolute().name}-{secrets.token_hex(4)}")


def point(run: Path, place: Shared) -> None:
    """Make `run` a run whose ledger lies there. Durable when this returns."""
    text = json.dumps({"url": place.url, "study": place.study}, indent=2)
    atomic_write(run / POINTER, text.encode())


def checked_url(url: str) -> str:
    """The URL of a database, without a password: it goes into the run's folder. Raises UserError."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        password = make_url(url).password
    except (ArgumentError, ValueError):
        raise UserError(
            f'ledger: "{url}" is no URL of a database; write one like postgresql://user@host/name'
        ) from None
    if password is not None:
        raise UserError(
            "ledger: the URL has a password, which the run's folder would keep; leave it out and put it where the "
            "database's library looks (~/.pgpass, PGPASSWORD)"
        )
    return url


def explain(place: Shared, error: BaseException) -> RunError:
    """The error to raise instead of one from SQLAlchemy or Optuna."""
    from sqlalchemy.exc import DBAPIError, NoSuchModuleError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            fact = " ".join(str(cause.orig).split())[:200]
            return RunError(f"{place} can't be used ({fact}); mend that and resume")
        if isinstance(cause, (ImportError, NoSuchModuleError)):
            fact = " ".join(str(cause).split())[:200]
            return RunError(f"{place} can't be used ({fact}); install the library for that database")
        if isinstance(cause, RuntimeError):  # Optuna: tables of another version
            fact = " ".join(str(cause).split())[:200]
            return RunError(
                f"{place} can't be used ({fact}); use another database, or the Optuna that made it"
            )
        cause = cause.__cause__
    if isinstance(error, KeyError):
        return RunError(f"{place}: the database has no such study; look at {POINTER} in the run's folder")
    fact = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return LedgerDamaged(f"{place} is damaged ({fact}); restore the database from a copy or start a new run")
