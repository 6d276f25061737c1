"""The files and folders of a run as they lie in its folder, which may come from somebody else.

A link would lead a write or a removal out of the folder, a FIFO would block its reader for ever, a device may act when
it is opened. So nothing of a run is opened, listed or removed before it is known to be a plain file or a real folder;
above the run's own folder links are followed, since whoever names it chose the path.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from nas.base.errors import RunError

FILES = ("config.json", "ledger.json", "data.safetensors")
WRITTEN = (  # written in place: a second name of one of these, a hard link, may be a file of somebody else
    "lock", "ledger.db", "ledger.db-journal", "ledger.db-wal", "ledger.db-shm", "workers.log",
)  # fmt: skip
FOLDERS = ("checkpoints",)
REPORT = "report.html"
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def check_run(run: Path, writes: bool = False) -> None:
    """Check all that a run keeps in its folder, except within checkpoints. writes: for a command that changes the run.

    Raises RunError that names the first file or folder that is not of the kind that a run has.
    """
    for name in (*FILES, *WRITTEN):
        is_file(run / name, writes and name in WRITTEN)
    for name in FOLDERS:
        is_folder(run / name)


def is_file(path: Path, writes: bool = False) -> bool:
    """Return whether a plain file of a run exists.

    writes: it will be written in place. Raises RunError if `path` is anything else, or has a second name and is to be
    written.
    """
    status = _status(path)
    if status is not None:
        _check(path, status, writes)
    return status is not None


def is_folder(path: Path) -> bool:
    """Return whether a folder of a run exists. Raises RunError if `path` is anything else."""
    status = _status(path)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise RunError(f"{path} is {_kind(status)}, not a folder, and may lead elsewhere; {_REMEDY}")
    return status is not None


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a plain file of a run; return its descriptor. With O_CREAT, a new file is only its owner's to write.

    Never truncates. Raises OSError if it can't be opened, RunError if it is not such a file (`is_file`).
    """
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
    is_file(path, writes)
    descriptor = os.open(path, flags & ~os.O_TRUNC | _FLAGS, 0o644)
    try:
        _check(path, os.fstat(descriptor), writes)  # it may have changed since it was looked at
    except RunError:
        os.close(descriptor)
        raise
    return descriptor


def discard(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; of a link, only itself. What can't be removed stays."""
    status = _status(path)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


_REMEDY = "remove it if this copy of the run is somebody else's, or put the real one in its place"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(
            f"{path} can't be read ({error.strerror}); check the permissions of its folder"
        ) from None


def _check(path: Path, status: os.stat_result, writes: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{path} is {_kind(status)}, not a plain file, and may lead elsewhere; {_REMEDY}")
    if writes and status.st_nlink > 1:
        raise RunError(
            f"{path} has a second name (a hard link), which a write would change as well; put a copy in its place"
        )


def _kind(status: os.stat_result) -> str:
    return next((kind for known, kind in _KINDS if known(status.st_mode)), "a file")
