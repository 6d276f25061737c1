"""Atomic creation of a run's ledger, and the lease that its only writer needs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nas.base.errors import RunError
from nas.ledger.config_file import ConfigFile
from nas.ledger.files import fsync_file, fsync_folder
from nas.ledger.leftovers import temporary_name
from nas.ledger.scores import called, is_lower_better
from nas.ledger.shared import FILE as DATABASE
from nas.ledger.shared import Place, Shared, new_place, point
from nas.ledger.study import build

if TYPE_CHECKING:
    from nas.ledger.lease import Lease

FORMAT = 2  # 1: a job kept its training plan, the order of completions and the memo in one mapping
LEDGER = "ledger"  # the study's attribute for the format and the digest of the configuration
IDENTITY = "run"  # the study's attribute for the run's name, which config.json has too
OBJECTIVE = (
    "objective"  # the study's attribute for the criterion whose values the trials have; without it, their own
)
ORIGINAL = "config"  # the study's attribute for the configuration with which the run was created


def make(run: Path, config: ConfigFile, url: str | None) -> None:
    """Create the ledger of a new run. Raises RunError.

    It is built as a database under a temporary name, or as a study in a shared database. The run exists once the
    database is renamed, or once the run's folder points to the study.
    """
    import morphs

    attributes = {
        LEDGER: {"format": FORMAT, "config": config.digest},
        "moves": sorted(move.name for move in morphs.MOVES),
        ORIGINAL: config.config,
        IDENTITY: config.run,
    }
    scores = (config.described.task or {}).get("scores", [])
    select = config.config.get("config", {}).get("select") if scores else None
    objective = str(select or scores[0]) if scores else None  # what the search selects by
    lower = objective is not None and is_lower_better(objective)
    named = None if objective is None else f"validation {called(objective)}"
    if objective is not None:
        attributes[OBJECTIVE] = objective
    if url is not None:
        place = new_place(run, url)
        build(place, attributes, lower, named)
        return point(run, place)
    temporary = temporary_name(run / DATABASE)
    try:
        build(temporary, attributes, lower, named)
        fsync_file(temporary)
        temporary.rename(run / DATABASE)
        fsync_folder(run)
        fsync_folder(run.absolute().parent)
    except OSError as error:
        raise RunError(
            f"{run} can't be written ({error.strerror}); free space or choose another folder"
        ) from None
    finally:
        with suppress(OSError):  # a leftover temporary file does no harm
            temporary.unlink()


def leased(place: Place, lock: Path) -> Lease | None:
    """Acquire the lease of a shared database; None for a file, where the lock is enough. Raises RunError."""
    if not isinstance(place, Shared):
        return None
    from nas.ledger.lease import Lease

    return Lease(place, lock)
