"""The kernel's lock on an open file: flock, or where there is none, on Windows, a lock on a byte far behind its end.

A process that dies frees it, however it dies. `take` and `look` raise BlockingIOError where another process has it, and
OSError where the file system or the operating system has no locks.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

try:
    import fcntl
except ImportError:
    fcntl = None

CLAIMS = fcntl is not None  # a lock on a file or a folder that hinders nobody who does not ask for it
FLAGS = getattr(os, "O_CLOEXEC", 0)
FOLDER_FLAGS = FLAGS | getattr(os, "O_DIRECTORY", 0)
FAR = (
    2**30
)  # Windows keeps others from reading what is locked, and who holds the lock is written at the beginning


def take(descriptor: int) -> None:
    """Take the lock, at once or not at all."""
    if fcntl is not None:
        return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return _lock_byte(descriptor)


def look(descriptor: int) -> None:
    """Find out whether the lock is free; a file that is open for reading alone will do.

    Others who look are no obstacle, except on Windows, where the caller has the lock until it closes the file.
    """
    if fcntl is not None:
        return fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return _lock_byte(descriptor)


def content(descriptor: int) -> bytes:
    """The first 4096 bytes of the file."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 4096)


def _lock_byte(descriptor: int) -> None:
    try:
        import msvcrt
    except ImportError:  # neither a Unix nor Windows
        raise OSError(errno.ENOLCK, f"{sys.platform} has no file locks") from None

    windows: Any = msvcrt  # whose members a checker on another system doesn't know
    os.lseek(descriptor, FAR, os.SEEK_SET)
    try:
        windows.locking(descriptor, windows.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from None
