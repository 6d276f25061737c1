"""Removes runs."""

from __future__ import annotations

from pathlib import Path

from nas.base.errors import RunError
from nas.base.text import size
from nas.data.hashes import FILE as HASHES
from nas.inspect.current_driver import LOCK, driver_of
from nas.inspect.status import CONFIG, disk_bytes
from nas.ledger.driver_lock import Lock
from nas.ledger.leftovers import TEMPORARY
from nas.ledger.run_files import FILES, FOLDERS, REPORT, WRITTEN, discard
from nas.ledger.shared import Shared, place_of

OWN = {*FILES, *WRITTEN, *FOLDERS, HASHES, REPORT}


def remove(run: Path) -> str:
    """Remove a run's folder; return a sentence about it.

    Only what a run keeps is removed, and the folder if nothing else is in it. Of a link only the link is removed. The
    study of a run with a shared ledger stays in its database. Raises RunError if the run has a driver, or if something
    can't be removed; by then it may be damaged, and can be removed again.
    """
    place = place_of(run)
    driver = driver_of(run)
    if driver is not None:
        raise RunError(f"rm: {run} is in use by {driver.name}; stop it first")
    before = disk_bytes(run)
    lock = Lock(run / LOCK)
    try:
        own = [path for path in run.iterdir() if path.name in OWN or path.name.startswith(TEMPORARY)]
        for path in sorted(own, key=lambda path: path.name == CONFIG):  # by which it is known as a run
            if path.name != LOCK:
                discard(path)
    finally:
        lock.close()
    discard(run / LOCK)
    left = sorted(path.name for path in run.iterdir())
    stuck = [name for name in left if name in OWN]
    if stuck:
        raise RunError(f"rm: {run / stuck[0]} can't be removed; check the permissions of its folder")
    said = f"{run}: removed, {size(before - disk_bytes(run))} are free again"
    if left:
        said += f"; what is not the run's stays: {', '.join(left[:3])}{' …' if len(left) > 3 else ''}"
    else:
        run.resolve().rmdir()  # of a link, what it names
    return said + (f"; {place} stays in its database" if isinstance(place, Shared) else "")
