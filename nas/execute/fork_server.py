"""The fork_server: one process that imports torch and holds the data once, and forks every worker from there.

Workers that each import and load for themselves take seconds to start and a private copy of both: measured with
CIFAR-10 and two workers, 2.9 GB and 8 to 10 s. ForkedProcess, they share all that they don't write to.

Forking is safe here as it is nowhere else in a run: the server has one thread, computes nothing, touches no
accelerator, and runs no code of the user's (data that comes from a user's function is made in the worker). The command
line's own process is such a place too, as long as it has only imported: there the server itself is forked, and shares
torch with the driver (0.3 GB).
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any, NoReturn

from nas.config.run_config import RunConfig
from nas.execute.orders import Ended, Kill, Load, Start

_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from nas.execute.fork_server import main; main(int(sys.argv[1]))"
)


@dataclass(eq=False)
class ForkedProcess:
    """The driver's handle of a process that it forked; as subprocess.Popen."""

    pid: int
    code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired, `timeout` in seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.code is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("fork_server", timeout or 0.0)
            else:
                time.sleep(0.005)
        return self.code

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.code is None:  # not reaped: its number is still its own
            os.kill(self.pid, number)


@dataclass(eq=False)
class ForkServer:
    """The driver's handle of a fork_server."""

    process: subprocess.Popen[bytes] | ForkedProcess
    pipe: Connection[Any, Any]
    died: int | None = None

    @classmethod
    def fork_off(cls) -> ForkServer:
        """A fork_server that shares what this process has imported; for one that has done nothing but import."""
        import_module("nas.execute.worker")  # with all that a worker imports, and the driver as well
        ours, theirs = Pipe()
        with theirs:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if not pid:
                _leave_driver(ours, theirs)
        return cls(ForkedProcess(pid), ours)

    @classmethod
    def start(cls) -> ForkServer:
        """A server of any process: it imports for itself. A session of its own: Ctrl-C reaches the driver alone."""
        ours, theirs = Pipe()
        with theirs:
            paths = json.dumps([str(entry) for entry in sys.path])
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, str(theirs.fileno()), paths],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return cls(process, ours)

    def load(self, config: RunConfig) -> None:
        """Begin to load the data of `config`; returns at once."""
        with suppress(OSError):
            self.pipe.send(Load(config))

    def start_worker(self, order: Start) -> Connection[Any, Any]:
        """Have a worker forked as soon as what it needs is loaded; our end of its pipe."""
        ours, theirs = Pipe()
        with theirs, suppress(OSError):  # a fork_server that died this moment: `ended_workers` tells
            self.pipe.send(order)
            send_handle(self.pipe, theirs.fileno(), None)
        return ours

    @property
    def wakes(self) -> Sequence[Connection[Any, Any]]:
        """The server's own pipe: it tells of ends."""
        return (self.pipe,)

    def kill_worker(self, number: int) -> None:
        """Kill a worker; a frozen one as well."""
        with suppress(OSError):
            self.pipe.send(Kill(number))

    def ended_workers(self) -> list[Ended]:
        """Workers that are gone since the last call."""
        found: list[Ended] = []
        try:
            while self.pipe.poll():
                found.append(self.pipe.recv())
        except (EOFError, OSError):
            self.died = self.process.wait()  # its workers leave as soon as our ends of their pipes are closed
        return found

    def close(self) -> None:
        """Kill every worker and end; again does nothing."""
        self.pipe.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # frozen
            self.process.kill()
            self.process.wait()


def _leave_driver(driver: Connection[Any, Any], ours: Connection[Any, Any]) -> NoReturn:
    """In the forked process: become the fork_server. driver: the other end, which only the driver may hold."""
    code = 1
    try:
        os.setsid()  # Ctrl-C reaches the driver alone
        driver.close()
        with open(os.devnull, "r+b") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(nothing.fileno(), 1)
        main(ours.fileno())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(descriptor: int) -> None:
    """The fork_server itself: serve the driver at the other end of the socket `descriptor` until it closes that."""
    control: Connection[Any, Any] = Connection(descriptor)
    from nas.execute.worker import data_for, data_key, serve_driver  # with all that a worker imports

    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on the closed socket says it
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    held, data = None, None
    workers: dict[int, int] = {}  # numbers of the workers by process
    try:
        while True:
            for ready in wait([control, woken]):
                if ready is not control:
                    os.read(woken, 4096)
                    continue
                order = control.recv()
                if isinstance(order, Kill):
                    _kill(pid for pid, number in workers.items() if number == order.number)
                    continue
                if (wanted := data_key(order.config)) != held:
                    held, data = wanted, data_for(order.config)
                if isinstance(order, Start):
                    with Connection(recv_handle(control)) as end:
                        work = partial(serve_driver, end, order, data)
                        try:
                            workers[_fork(work, order.log, (descriptor, woken, wake))] = order.number
                        except OSError as error:  # no memory or no process is left: the others live on
                            control.send(Ended(order.number, 0, error.strerror))
            for pid, code in _reaped():
                control.send(Ended(workers.pop(pid), code))
    except (EOFError, OSError):
        pass  # the driver has gone, or wants no more of us
    finally:
        _kill(workers)


def _fork(work: Callable[[], None], log: Path, ours: Iterable[int]) -> int:
    """The process that does `work` and ends: the leader of a group of its own, with its output in `log`."""
    gc.freeze()  # a collection in the child would write to pages that it shares
    pid = os.fork()
    if pid:
        with suppress(OSError):  # whichever of the two does it first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in ours:
            os.close(descriptor)
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _kill(pids: Iterable[int]) -> None:
    """Kill children that haven't been reaped, so that their numbers are theirs, and all that they started."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _reaped() -> Iterator[tuple[int, int]]:
    """Children that are gone, with their exit codes."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)
