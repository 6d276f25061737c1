"""How a run's ledger comes to be, whole or not at all, and what its one writer needs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nas.base.errors import RunError
from nas.ledger.config_file import ConfigFile
from nas.ledger.files import fsync_file, fsync_folder, temporary_name
from nas.ledger.shared import FILE as DATABASE
from nas.ledger.shared import Place, Shared, new_place, point
from nas.ledger.study import build

if TYPE_CHECKING:
    from nas.ledger.lease import Lease

FORMAT = 2  # 1: a job kept its training plan, the order of completions and the memo in one mapping
LEDGER = "ledger"  # the study's attribute that makes it a ledger: format, and the digest of the configuration
IDENTITY = "run"  # the study's attribute that holds the run's own name, as config.json does
ORIGINAL = "config"  # the study's attribute that holds the configuration the run was made with


def make(run: Path, config: ConfigFile, url: str | None) -> None:
    """Make the ledger of a new run: a database under a temporary name, or a study of a shared one that nothing points
    to yet. The run exists once that has its own name, or is pointed to. Raises RunError.
    """
    import morphs

    attributes = {
        LEDGER: {"format": FORMAT, "config": config.digest},
        "moves": sorted(move.name for move in morphs.MOVES),
        ORIGINAL: config.config,
        IDENTITY: config.run,
    }
    if url is not None:
        place = new_place(run, url)
        build(place, attributes)
        return point(run, place)
    temporary = temporary_name(run / DATABASE)
    try:
        build(temporary, attributes)
        fsync_file(temporary)
        temporary.rename(run / DATABASE)
        fsync_folder(run)
        fsync_folder(run.absolute().parent)
    except OSError as error:
        raise RunError(
            f"{run} can't be written ({error.strerror}); free space or choose another folder"
        ) from None
    finally:
        with suppress(OSError):  # what can't be removed either does no harm
            temporary.unlink()


def leased(place: Place, lock: Path) -> Lease | None:
    """The right to write there, which a file needs none for beside its lock. Raises RunError."""
    if not isinstance(place, Shared):
        return None
    from nas.ledger.lease import Lease

    return Lease(place, lock)
