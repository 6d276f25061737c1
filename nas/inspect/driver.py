"""Who drives a run, seen from outside: the holder of its kernel lock, or of its lease. Reads only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.ledger import flock
from nas.ledger.lock import in_words
from nas.ledger.shared import Shared, place_of

if TYPE_CHECKING:
    from nas.ledger.lease_status import Look

LOCK = "lock"


@dataclass(frozen=True)
class Driver:
    """Who drives a run, in words. until, silent: of a lease, as in `nas.inspect.status.RunStatus`."""

    name: str
    until: str | None = None
    silent: bool = False


def driver_of(run: Path, first: Look | None = None) -> Driver | None:
    """Who drives the run now, or None. Where that is a lease's holder elsewhere, seconds are spent on a sign of life.

    first: a look at the lease, where there was one already. Raises RunError where the ledger's place can't be used.
    """
    first = first or lease_of(run)
    here = holder_of_lock(run)
    if here is not None or first is None:
        return None if here is None else Driver(here)
    from nas.ledger.lease_status import watched

    place = place_of(run)
    there = watched(place, run / LOCK, first) if isinstance(place, Shared) else None
    return None if there is None else Driver(there.name, there.until, there.until is None)


def lease_of(run: Path) -> Look | None:
    """A look at the lease of a run whose ledger is shared, for `driver_of`. Raises RunError."""
    place = place_of(run)
    if not isinstance(place, Shared):
        return None
    from nas.ledger.lease_status import look

    return look(place)


def holder_of_lock(run: Path) -> str | None:
    """The process that holds the kernel lock of this folder, in words; None where none does."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDONLY | flock.FLAGS)
    except OSError:
        return None
    try:
        flock.look(descriptor)
    except BlockingIOError:
        return in_words(flock.content(descriptor))
    except OSError:
        return None
    finally:
        os.close(descriptor)  # frees the lock, had we got it
    return None
