"""Workers that are started fresh, where a fork is missing or not safe: Windows, macOS.

Each imports and reads its data for itself, which takes seconds. The user's main script is not run again, as it would be
by multiprocessing: nothing of it is needed, so that it needs no guard and a notebook is as good.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing import connection as ends
from multiprocessing.connection import Connection
from typing import Any, cast

from nas.config.run_config import RunConfig
from nas.execute.orders import Ended, Start

_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from nas.execute.spawned import main; main(int(sys.argv[1]))"
)
_Popen = subprocess.Popen[bytes]


@dataclass(eq=False)
class SpawnedWorkers:
    """Worker processes that the driver starts itself. There is no process that all come from: `died` stays None."""

    died: int | None = None
    _running: dict[int, _Popen] = field(default_factory=dict[int, _Popen])
    _not_started: list[tuple[Ended, Connection[Any, Any]]] = field(
        default_factory=list[tuple[Ended, "Connection[Any, Any]"]]
    )

    @property
    def wakes(self) -> tuple[()]:
        """None: the end of a worker closes its own pipe."""
        return ()

    def load(self, config: RunConfig) -> None:
        """Nothing: each worker reads the data itself."""

    def start_worker(self, order: Start) -> Connection[Any, Any]:
        """Start a process; our end of its pipe, in which its order waits for it."""
        ours, theirs = Pipe()
        paths = json.dumps([str(entry) for entry in sys.path])
        command = [sys.executable, "-P", "-c", _MAIN, str(theirs.fileno()), paths]
        try:
            with open(order.log, "ab") as log:
                process = cast(
                    _Popen,
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_inheriting(theirs)
                    ),
                )
        except OSError as error:  # no memory or no process is left: the others live on
            # Their end stays open till that is told, so that the job is handed over, and its driver hears why.
            self._not_started.append((Ended(order.number, 0, error.strerror), theirs))
            return ours
        theirs.close()
        self._running[order.number] = process
        with suppress(OSError):  # it has died already: `ended_workers` tells
            ours.send(order)
        return ours

    def kill_worker(self, number: int) -> None:
        """Kill a worker, a frozen one as well."""
        if number in self._running:
            _kill(self._running[number])

    def ended_workers(self) -> list[Ended]:
        """Workers that are gone since the last call."""
        gone = [(number, process) for number, process in self._running.items() if process.poll() is not None]
        found = [Ended(number, process.returncode) for number, process in gone]
        while self._not_started:
            end, theirs = self._not_started.pop()
            theirs.close()
            found.append(end)
        for number, _ in gone:
            del self._running[number]
        return found

    def close(self) -> None:
        """Kill every worker; again does nothing."""
        for process in self._running.values():
            _kill(process)
        for process in self._running.values():
            process.wait()
        self._running.clear()


def _inheriting(end: Connection[Any, Any]) -> Mapping[str, Any]:
    """For Popen: the process inherits this end of a pipe and nothing else, and Ctrl-C reaches the driver alone."""
    if sys.platform == "win32":
        os.set_handle_inheritable(end.fileno(), True)
        info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [end.fileno()]})
        return {"startupinfo": info, "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"pass_fds": [end.fileno()], "start_new_session": True}


def _kill(process: _Popen) -> None:
    """Kill a process that hasn't been reaped, so that its number is its own, and where possible all that it started."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def main(handle: int) -> None:
    """The worker itself: serve the driver at the other end of the pipe `handle`, which says first what for."""
    from nas.execute.worker import serve_driver  # with all that a worker imports

    pipe: Connection[Any, Any] = getattr(ends, "PipeConnection", Connection)(handle)  # the former on Windows
    with suppress(EOFError, OSError):  # the driver has gone already
        order: Start = pipe.recv()
        serve_driver(pipe, order, None)
