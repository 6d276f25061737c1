"""The lock that allows only one driver for a run: a kernel lock, which a dead process can't hold."""

from __future__ import annotations

import json
import os
import shlex
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.base.errors import RunError
from nas.ledger import file_lock
from nas.ledger.run_files import open_file

PATIENCE_SECONDS = 0.5
KILLED_HOLDER_SECONDS = (
    10.0  # the kernel may need that long to remove a killed holder with much memory, or on a busy machine
)
_BEGIN = b'{"pid": '  # of the holder's name
_SIGKILL, _EXITING = 0x100, 0x4  # bits of a process's pending signals and of its flags


class Lock:
    """An exclusive flock on a file, which names its holder for other processes' errors, and on the file's folder.

    If somebody removes the file as stale, the next driver would lock a new one. So the folder is locked as well, if
    its file system supports that. The kernel releases both when the process ends, in whatever way. A forked child (a
    loader's worker) closes its copies at once, so that an orphan can't hold the run.
    """

    def __init__(self, path: Path) -> None:
        """Acquire the lock. Raises RunError with the holder's name if another process has it, or if the file is not one
        that a driver made.
        """
        self._path = path
        try:
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
            self._place = _identity(os.stat(path.parent))
        except OSError as error:
            raise RunError(
                f"{path} can't be opened ({error.strerror}); a driver needs to write there"
            ) from None
        try:
            _take(descriptor, descriptor)
        except BlockingIOError:
            holder = in_words(file_lock.content(descriptor))
            os.close(descriptor)
            raise RunError(f"{path.parent} is in use by {holder}; wait for it or stop it first") from None
        except OSError as error:
            os.close(descriptor)
            raise RunError(
                f"{path} can't be locked ({error.strerror}); use Linux, macOS or Windows, and a file system with locks"
            ) from None
        if not _by_driver(file_lock.content(descriptor)):
            os.close(descriptor)
            raise RunError(
                f"{path} holds what no driver wrote; move it elsewhere if you need it, or remove it"
            )
        self._descriptor: int | None = descriptor
        try:
            self._folder = _take_folder(path.parent, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(
                f"{path.parent} is in use by a process whose {path.name} was removed; wait for it or stop it first"
            ) from None
        alive: weakref.ref[Lock] = weakref.ref(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _drop(alive))
        self._name = json.dumps(
            {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        )
        _write_name(descriptor, self._name)

    def check(self) -> None:
        """Put back the lock file if somebody removed it. Raises RunError if the folder is not where it was, or if
        another process has the lock now. Does nothing once the lock is released.
        """
        if self._descriptor is None:
            return
        folder = self._path.parent
        try:
            here = _identity(os.stat(folder)) == self._place
            named = here and _identity(os.stat(self._path)) == _identity(os.fstat(self._descriptor))
        except FileNotFoundError:
            here, named = folder.is_dir() and _identity(os.stat(folder)) == self._place, False
        except OSError:
            return  # of a file system that fails for now: the next write will say so
        if not here:
            raise RunError(self._moved())
        if not named:
            self._put_back()

    def _moved(self) -> str:
        folder, now = self._path.parent, None
        if self._folder is not None:
            with suppress(OSError):  # Linux knows the new name
                now = os.readlink(f"/proc/self/fd/{self._folder}")
        if now is None or now.endswith(" (deleted)"):
            fact = "was deleted" if now else "was moved or deleted"
            return f"{folder} {fact} while its search ran; restore it and resume it"
        again = f"nas resume {shlex.quote(now)}"
        return (
            f"{folder} was moved to {now} while its search ran; its results are kept; continue with: {again}"
        )

    def _put_back(self) -> None:
        try:
            descriptor = open_file(self._path, os.O_RDWR | os.O_CREAT)
        except OSError:
            return
        try:
            file_lock.take(descriptor)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                fact = f"{self._path} was removed while the search ran, and another driver took it"
                raise RunError(f"{fact}; leave the run to that driver") from None
            return
        former, self._descriptor = self._descriptor, descriptor
        if former is not None:
            os.close(former)
        _write_name(descriptor, self._name)

    def close(self) -> None:
        """Release the lock. Further calls do nothing."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            self._drop()

    def _drop(self) -> None:
        held = (self._descriptor, self._folder)
        self._descriptor = self._folder = None
        for descriptor in held:
            if descriptor is not None:
                os.close(descriptor)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _write_name(descriptor: int, name: str) -> None:
    with suppress(OSError):  # on a full disk the lock works too, without a name
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, name.encode())


def _take_folder(folder: Path, named: int) -> int | None:
    """Lock a folder; None if its file system can't lock folders. Raises BlockingIOError if it is held."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | file_lock.FOLDER_FLAGS)
    except OSError:
        return None
    try:
        _take(descriptor, named)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _drop(alive: weakref.ref[Lock]) -> None:
    lock = alive()
    if lock is not None:
        lock._drop()  # pyright: ignore[reportPrivateUsage]


def _take(descriptor: int, named: int) -> None:
    """Acquire a lock, waiting briefly for its holder to end, and longer for a killed one. named: the file that names
    the holder. Raises BlockingIOError.
    """
    begin = time.monotonic()
    while True:
        try:
            return file_lock.take(descriptor)
        except BlockingIOError:
            waited = time.monotonic() - begin
            if waited > PATIENCE_SECONDS and not (waited < KILLED_HOLDER_SECONDS and _dying(named)):
                raise
        time.sleep(0.01)


def _dying(descriptor: int) -> bool:
    """Return whether /proc shows that the holder has been killed or is ending."""
    try:
        name: Any = json.loads(file_lock.content(descriptor))
        process = Path(f"/proc/{int(name['pid'])}")
        if name["host"] != socket.gethostname() or not process.parent.joinpath("self").exists():
            return False
        if not process.exists():
            return True
        state, *_, flags = (process / "stat").read_text().rpartition(")")[2].split()[:7]
        waiting = [
            line.split()[1] for line in (process / "status").read_text().splitlines() if "Pnd:" in line
        ]
        killed = any(int(signals, 16) & _SIGKILL for signals in waiting)
        return state in "ZX" or bool(int(flags) & _EXITING) or killed
    except (FileNotFoundError, ProcessLookupError):
        return True  # it ended during this check
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _by_driver(content: bytes) -> bool:
    """Return whether a lock file may be emptied: it is empty, or names a holder, in full or cut by a full disk. After
    the power failed, zeros may stand for what was not written.
    """
    kept = content.strip(b"\0")
    return kept.startswith(_BEGIN) or _BEGIN.startswith(kept)


def in_words(holder: str | bytes) -> str:
    """Describe the holder of a lock file or lease; "another process" if the text is not, or not yet, a holder's."""
    try:
        name: Any = json.loads(holder)
        place, since = (
            "".join(c for c in str(name[key]) if c.isprintable())[:100] for key in ("host", "since")
        )
        return f"process {int(name['pid'])} on {place} since {since}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"
