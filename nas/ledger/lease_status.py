"""The holder of the lease of a run in a shared database, for processes that only read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import SQLAlchemyError

from nas.ledger.driver_lock import in_words
from nas.ledger.lease import (
    BEAT_SECONDS,
    FREE,
    LEASES,
    PATIENCE_SECONDS,
    clock,
    kernel_lock,
    lock_of,
    row_of,
)
from nas.ledger.shared import Shared, explain

WATCH_SECONDS = 2 * BEAT_SECONDS + 1  # how long to wait for a heartbeat


@dataclass(frozen=True)
class Look:
    """The row of a lease at one moment. at: by this process's clock."""

    holder: str
    beat: int
    at: float


@dataclass(frozen=True)
class Holder:
    """The holder of a lease. name: a description. until: the local time before which nobody else can take the lease;
    None if there was no heartbeat.
    """

    name: str
    until: str | None


def look(place: Shared) -> Look | None:
    """Read the lease; None if nobody holds it. Raises RunError."""
    try:
        engine = create_engine(place.url, **place.engine_settings())
        row = row_of(engine, place) if inspect(engine).has_table(LEASES.name) else None
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise explain(place, error) from error
    return None if row is None or row[0] == FREE else Look(*row, time.monotonic())


def watched(place: Shared, lock: Path, first: Look | None) -> Holder | None:
    """Return the holder of the lease after its next heartbeat, or after `WATCH_SECONDS` from `first` without one.

    lock: the file of the run's kernel lock, which was free after `first`: so a holder that had it is dead, and the
    result is None. Raises RunError.
    """
    now = first
    while first is not None and now is not None and lock_of(now.holder) != kernel_lock(lock):
        if (now.holder, now.beat) != (first.holder, first.beat):
            return Holder(in_words(now.holder), clock(time.time() + PATIENCE_SECONDS))
        if time.monotonic() - first.at > WATCH_SECONDS:
            return Holder(in_words(now.holder), None)
        time.sleep(0.25)
        now = look(place)
    return None
