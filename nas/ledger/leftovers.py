"""Temporary files and folders, and what killed processes left of theirs.

Whoever makes one claims it by a kernel lock, which ends with the process, however that ends. So what nobody claims is a
leftover, and the next command that comes by removes it. Where the system can't lock files in this way, nothing is
claimed, and nothing removed.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas.ledger import file_lock
from nas.ledger.run_files import discard

TEMPORARY = ".tmp-"  # what has such a name in a run is always ignored
UNIQUE = "[0-9a-f]{12}"  # the end of a temporary folder's name
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


def temporary_name(target: Path) -> Path:
    """Return a new hidden name beside `target`."""
    return target.with_name(f"{_prefix(target)}{os.getpid()}-{secrets.token_hex(4)}")


@contextmanager
def temporary_file(target: Path, data: bytes) -> Generator[Path]:
    """Make a file with `data` beside `target`, to be renamed to it; yield its path. Its bytes are durable by then.

    What killed writers of the same target left is removed first, and this file at the end unless it was renamed. Raises
    OSError.
    """
    clear(target.parent, re.escape(_prefix(target)) + ".*")
    path, descriptor = _new_file(target)
    try:
        with open(os.dup(descriptor), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not file_lock.CLAIMS:  # Windows renames no open file
            os.close(descriptor)
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
        if file_lock.CLAIMS:
            os.close(descriptor)


@contextmanager
def temporary_folder(prefix: str, within: Path | None = None) -> Generator[Path]:
    """Make a folder whose name has that prefix; yield its path, and remove the folder at the end.

    within: where; None: in the system's folder for temporary files. What killed processes left under the same prefix is
    removed first. Raises OSError.
    """
    parent = Path(tempfile.gettempdir()) if within is None else within
    clear(parent, re.escape(prefix) + UNIQUE)
    while True:
        path = parent / f"{prefix}{secrets.token_hex(6)}"
        path.mkdir(mode=0o777 if within else 0o700)
        descriptor = _open(path)
        if descriptor is None or _claim(descriptor, path) is not False:
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        discard(path)
        if descriptor is not None:
            os.close(descriptor)


def clear(folder: Path, names: str = re.escape(TEMPORARY) + ".*") -> None:
    """Remove the entries of `folder` that `abandoned` yields. What can't be removed stays."""
    for entry in abandoned(folder, names):
        discard(entry)


def abandoned(folder: Path, names: str = re.escape(TEMPORARY) + ".*") -> Iterator[Path]:
    """Yield the entries of `folder` that are this user's and that no process claims, nor can while the caller has one.

    names: a regular expression for their names.
    """
    try:
        found = sorted(entry.name for entry in os.scandir(folder) if re.fullmatch(names, entry.name))
    except OSError:
        return
    for path in (folder / name for name in found):
        if not _is_own(path):
            continue
        descriptor = _open(path)
        try:
            if path.is_symlink() or (descriptor is not None and _claim(descriptor, path)):
                yield path
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _prefix(target: Path) -> str:
    return f"{TEMPORARY}{target.name[:16]}-"


def _new_file(target: Path) -> tuple[Path, int]:
    while True:
        path = temporary_name(target)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
        if _claim(descriptor, path) is not False:
            return path, descriptor
        os.close(descriptor)  # somebody who clears up came between


def _open(path: Path) -> int | None:
    """Open a file or a folder, but no link; None if that is impossible, as on Windows for a folder."""
    try:
        return os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return None


def _is_own(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    usual = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)
    return usual and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def _claim(descriptor: int, path: Path) -> bool | None:
    """Claim an open file or folder; return whether it is now ours, None if it can't be claimed here.

    It is not ours if a process has it, or if one has just removed it.
    """
    if not file_lock.CLAIMS:
        return None
    try:
        file_lock.take(descriptor)
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks
        return None
