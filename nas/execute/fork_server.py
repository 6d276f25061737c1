"""The fork server: one process that imports torch and holds the data once, and forks every worker.

Workers that import and load the data themselves take seconds to start and hold a private copy of both: measured with
CIFAR-10 and two workers, 2.9 GB and 8 to 10 s. Forked workers share all memory that they don't write to.

Forking is safe here, unlike elsewhere in a run: the server has one thread, computes nothing, uses no accelerator, and
runs no user code (data from a user's function is loaded in the worker). The process of the command line is equally safe
as long as it has only imported: there the server itself is forked, and shares torch with the driver (0.3 GB).
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
from nas.execute.worker_messages import Ended, Kill, Load, Start
from nas.ledger.run_files import open_file

_MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from nas.execute.fork_server import main; main(int(sys.argv[1]))"
)


@dataclass(eq=False)
class ForkedProcess:
    """The driver's handle of a process that it forked, with the interface of subprocess.Popen."""

    pid: int
    code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit code, negative for a signal. Raises subprocess.TimeoutExpired after `timeout` seconds."""
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
        if self.code is None:  # not reaped, so its process id can't have been reused
            os.kill(self.pid, number)


@dataclass(eq=False)
class ForkServer:
    """The driver's handle of a fork server."""

    process: subprocess.Popen[bytes] | ForkedProcess
    pipe: Connection[Any, Any]
    died: int | None = None

    @classmethod
    def fork_off(cls) -> ForkServer:
        """Fork a server that shares what this process has imported. Only for a process that has done nothing else."""
        import_module("nas.execute.worker")  # with everything that a worker imports
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
        """Start a server from any process; it does its own imports. In its own session, it gets no Ctrl-C."""
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
        """Start loading the data of `config`; return at once."""
        with suppress(OSError):
            self.pipe.send(Load(config))

    def start_worker(self, order: Start) -> Connection[Any, Any]:
        """Have a worker forked as soon as its data is loaded; return our end of its pipe."""
        ours, theirs = Pipe()
        with theirs, suppress(OSError):  # if the fork server has just died, `ended_workers` reports it
            self.pipe.send(order)
            send_handle(self.pipe, theirs.fileno(), None)
        return ours

    @property
    def wakes(self) -> Sequence[Connection[Any, Any]]:
        """The server's own pipe, which reports ended workers."""
        return (self.pipe,)

    def kill_worker(self, number: int) -> None:
        """Kill a worker, even a frozen one."""
        with suppress(OSError):
            self.pipe.send(Kill(number))

    def ended_workers(self) -> list[Ended]:
        """The workers that have ended since the last call."""
        found: list[Ended] = []
        try:
            while self.pipe.poll():
                found.append(self.pipe.recv())
        except (EOFError, OSError):
            self.died = self.process.wait()  # its workers exit as soon as our ends of their pipes are closed
        return found

    def close(self) -> None:
        """Kill every worker and end the server. A second call does nothing."""
        self.pipe.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # frozen
            self.process.kill()
            self.process.wait()


def _leave_driver(driver: Connection[Any, Any], ours: Connection[Any, Any]) -> NoReturn:
    """In the forked process: become the fork server. driver: the other end, which only the driver may hold."""
    code = 1
    try:
        os.setsid()  # Ctrl-C reaches the driver only
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # and kill -INT means that too: workers inherit it
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
    """The fork server itself: serve the driver at the other end of the socket `descriptor` until that is closed."""
    control: Connection[Any, Any] = Connection(descriptor)
    from nas.execute.worker import data_for, data_key, serve_driver  # with everything that a worker imports

    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on, the closed socket ends the server
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    held, data = None, None
    workers: dict[int, int] = {}  # worker numbers by process id
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
                    held, data = (
                        wanted,
                        data_for(order.config, order.run if isinstance(order, Start) else None),
                    )
                if isinstance(order, Start):
                    with Connection(recv_handle(control)) as end:
                        work = partial(serve_driver, end, order, data)
                        try:
                            workers[_fork(work, order.log, (descriptor, woken, wake))] = order.number
                        except OSError as error:  # out of memory or processes: the other workers continue
                            control.send(Ended(order.number, 0, error.strerror))
            for pid, code in _reaped():
                control.send(Ended(workers.pop(pid), code))
    except (EOFError, OSError):
        pass  # the driver has ended or closed the socket
    finally:
        _kill(workers)


def _fork(work: Callable[[], None], log: Path, ours: Iterable[int]) -> int:
    """Fork a process that does `work` and exits. It leads its own process group and writes its output to `log`."""
    gc.freeze()  # garbage collection in the child would write to shared pages
    pid = os.fork()
    if pid:
        with suppress(OSError):  # parent and child both try; whichever is first succeeds
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
        try:
            out = open_file(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError:  # the run's folder was moved or deleted, as the driver will say
            out = os.open(os.devnull, os.O_WRONLY)
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
    """Kill children and all that they started. They haven't been reaped, so their process ids can't be reused."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _reaped() -> Iterator[tuple[int, int]]:
    """The process ids and exit codes of ended children."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)
