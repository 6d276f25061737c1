"""A forked process under ptrace, stopped before and after each of its system calls: Linux, any architecture.

What lies on the disk at such a stop is exactly what kill −9 would leave there, so that one traced run enumerates every
state that a kill can leave, and `kill_at` proves a sample of them with real kills.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TRACEME, _SYSCALL, _SETOPTIONS, _SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_GOOD, _EXITKILL = 0x1, 0x100000
_SYNC = {"x86_64": (74, 75), "aarch64": (82, 83)}.get(platform.machine(), ())  # fsync, fdatasync
# What can fail for want of space or a disk, by the argument that names the file; a descriptor or a path. x86_64 alone.
_BY_DESCRIPTOR = {
    0: 0,
    1: 0,
    17: 0,
    18: 0,
    74: 0,
    75: 0,
    77: 0,
    217: 0,
}  # read write pread pwrite fsync … getdents64
_BY_PATH = {
    82: 0,
    83: 0,
    84: 0,
    87: 0,
    257: 1,
    258: 1,
    263: 1,
    264: 1,
    316: 1,
}  # rename mkdir rmdir unlink openat …
_POKE, _NUMBER, _RETURNED = 6, 15 * 8, 10 * 8  # PTRACE_POKEUSER; orig_rax and rax of struct user
CAN_FAIL = platform.machine() == "x86_64"
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long

# path below the root → (inode, content; None for a folder). The root itself is ".".
Files = Mapping[str, tuple[int, bytes | None]]


class _Info(ctypes.Structure):
    """struct ptrace_syscall_info, as far as an entry fills it."""

    _fields_ = (
        ("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32), ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64), ("number", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6),
    )  # fmt: skip


@dataclass(frozen=True)
class Stop:
    """The process before its system call `call`, or at its end. synced: the path that the call before made durable."""

    call: int
    files: Files
    synced: str | None = None


@dataclass
class Traced:
    """A fork of this process that does `work` and ends."""

    work: Callable[[], object]
    pid: int = field(init=False)
    code: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.pid = os.fork()
        if not self.pid:
            self._work()
        os.waitpid(self.pid, 0)
        _ptrace(_SETOPTIONS, self.pid, _GOOD | _EXITKILL)

    def _work(self) -> None:
        code = 1
        try:
            _ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            self.work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def step(self) -> bool:
        """Go on to the beginning or end of a system call; False once the process has ended."""
        number = 0
        while self.code is None:
            _ptrace(_SYSCALL, self.pid, number)
            _, status = os.waitpid(self.pid, 0)
            if not os.WIFSTOPPED(status):
                self.code = os.waitstatus_to_exitcode(status)
            elif os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
                return True
            else:
                number = os.WSTOPSIG(status)  # a signal of its own
        return False

    def syncing(self) -> str | None:
        """The path that the system call which is about to begin will make durable."""
        info = _Info()
        size = _LIBC.ptrace(_SYSCALL_INFO, self.pid, ctypes.sizeof(info), ctypes.byref(info))
        if size < _Info.arguments.offset + 8 or info.number not in _SYNC:
            return None
        return os.readlink(f"/proc/{self.pid}/fd/{info.arguments[0]}")

    def touching(self, root: Path) -> str | None:
        """The path below `root` that the system call which is about to begin reads or changes, if it is such a one."""
        info = _Info()
        _LIBC.ptrace(_SYSCALL_INFO, self.pid, ctypes.sizeof(info), ctypes.byref(info))
        path = ""
        with suppress(OSError):
            if info.number in _BY_DESCRIPTOR:
                path = os.readlink(f"/proc/{self.pid}/fd/{info.arguments[_BY_DESCRIPTOR[info.number]]}")
            elif info.number in _BY_PATH:
                path = self._text(info.arguments[_BY_PATH[info.number]])
        return os.path.relpath(path, root) if path.startswith(f"{root}/") else None

    def _text(self, address: int) -> str:
        with open(f"/proc/{self.pid}/mem", "rb") as memory:
            memory.seek(address)
            return memory.read(512).split(b"\0")[0].decode(errors="replace")

    def refuse(self, error: int) -> None:
        """Have the system call that is about to begin not happen, but fail with `error`."""
        _ptrace(_POKE, self.pid, 2**64 - 1, _NUMBER)
        self.step()
        _ptrace(_POKE, self.pid, 2**64 - error, _RETURNED)

    def kill(self) -> None:
        """Kill −9 where it stands."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)


def stops(work: Callable[[], object], root: Path) -> Iterator[Stop]:
    """`work` in a fork, and what lies below `root` before each system call of its and at its end; states that equal
    the one before are left out unless something became durable. Raises SystemExit when the work fails.
    """
    process, call, synced = Traced(work), 0, None
    before = snapshot(root, {})
    yield Stop(0, before)
    while process.step():  # the entry of a call
        path = process.syncing()
        if not process.step():
            break
        call += 1
        synced = None if path is None else os.path.relpath(path, root)
        now = snapshot(root, before)
        if now != before or synced is not None:
            yield Stop(call, now, synced)
        before = now
    if process.code != 0:
        raise SystemExit(f"the traced process ended with code {process.code}")
    yield Stop(call, snapshot(root, before))


def kill_at(work: Callable[[], object], call: int) -> int:
    """`work` in a fork, killed before its system call `call`; the exit code, −9 unless it ended before."""
    process = Traced(work)
    for _ in range(2 * call + 1):
        if not process.step():
            break
    process.kill()
    assert process.code is not None
    return process.code


def fail_at(
    work: Callable[[], object], root: Path, call: int, error: int, spared: str = ""
) -> tuple[int | None, str]:
    """`work` in a fork, whose `call`-th system call on a file below `root` (but `spared`) fails with `error`.

    The exit code, and the path of that file; None and "" when there are fewer such calls.
    """
    process, count = Traced(work), 0
    struck = ""
    while process.step():
        path = process.touching(root)
        if path is not None and path != spared:
            count += 1
            if count == call + 1:
                struck = path
                process.refuse(error)
                continue
        process.step()
    return (process.code, struck) if struck else (None, "")


def snapshot(root: Path, before: Files) -> dict[str, tuple[int, bytes | None]]:
    """What lies below `root`. before: an earlier snapshot, whose equal contents are shared to save memory."""
    found: dict[str, tuple[int, bytes | None]] = {".": (root.stat().st_ino, None)}
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                content = None
                if entry.is_dir(follow_symlinks=False):
                    folders.append((folder / entry.name, path + "/"))
                else:
                    content = Path(entry.path).read_bytes()
                known = before.get(path)
                found[path] = (
                    known if known == (entry.inode(), content) and known else (entry.inode(), content)
                )
    return found


def _ptrace(request: int, pid: int, data: int = 0, address: int = 0) -> None:
    if _LIBC.ptrace(request, pid, address or None, data) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
