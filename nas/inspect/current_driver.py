"""The driver of a run: the process that holds its kernel lock or its lease. Only reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.base.errors import RunError
from nas.ledger import file_lock
from nas.ledger.driver_lock import in_words
from nas.ledger.run_files import open_file
from nas.ledger.shared import Shared, place_of

if TYPE_CHECKING:
    from nas.ledger.lease_status import Look

LOCK = "lock"


@dataclass(frozen=True)
class Driver:
    """The driver of a run. name: a description. until, silent: of a lease, as in `nas.inspect.status.RunStatus`."""

    name: str
    until: str | None = None
    silent: bool = False


def driver_of(run: Path, first: Look | None = None) -> Driver | None:
    """Return the driver of the run, or None. If a lease is held on another host, wait seconds for its next heartbeat.

    first: an earlier look at the lease, if there was one. Raises RunError if the ledger's database can't be used.
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
    """Read the lease of a run whose ledger is shared, for `driver_of`; None if there is none. Raises RunError."""
    place = place_of(run)
    if not isinstance(place, Shared):
        return None
    from nas.ledger.lease_status import look

    return look(place)


def holder_of_lock(run: Path) -> str | None:
    """Describe the process that holds the kernel lock of this folder; None if no process does.

    A driver locks the folder too, in case somebody removes the file.
    """
    named = _holder(run / LOCK)
    if named is not None:
        return in_words(named)
    unnamed = _holder(run, file_lock.FOLDER_FLAGS)
    return None if unnamed is None else f"a process whose {LOCK} file was removed"


def _holder(path: Path, flags: int | None = None) -> bytes | None:
    """The content of a file or folder that another process has locked, b"" for a folder; None if it is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY | flags) if flags else open_file(path)
    except (OSError, RunError):
        return None
    try:
        file_lock.look(descriptor)
    except BlockingIOError:
        return b"" if path.is_dir() else file_lock.content(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)  # also releases the lock if it was acquired
    return None
