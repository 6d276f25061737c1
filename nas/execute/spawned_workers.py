"""Workers started as new processes, where fork is missing or unsafe: Windows, macOS.

Each does its own imports and reads the data itself, which takes seconds. The user's main script is not run again, as
multiprocessing would do: so it needs no `if __name__ == "__main__"`, and a notebook works too.
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
from nas.execute.worker_messages import Ended, Start
from nas.ledger.run_files import open_file

_MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from nas.execute.spawned_workers import main; main(int(sys.argv[1]))"
)
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_Popen = subprocess.Popen[bytes]


@dataclass(eq=False)
class SpawnedWorkers:
    """Worker processes that the driver starts itself. There is no fork server, so `died` stays None."""

    died: int | None = None
    _running: dict[int, _Popen] = field(default_factory=dict[int, _Popen])
    _not_started: list[tuple[Ended, Connection[Any, Any]]] = field(
        default_factory=list[tuple[Ended, "Connection[Any, Any]"]]
    )

    @property
    def wakes(self) -> tuple[()]:
        """Empty: a worker that ends closes its own pipe."""
        return ()

    def load(self, config: RunConfig) -> None:
        """Do nothing: each worker reads the data itself."""

    def start_worker(self, order: Start) -> Connection[Any, Any]:
        """Start a process and send its order; return our end of its pipe."""
        ours, theirs = Pipe()
        paths = json.dumps([str(entry) for entry in sys.path])
        command = [sys.executable, "-P", "-c", _MAIN, str(theirs.fileno()), paths]
        try:
            with open(open_file(order.log, APPEND), "ab") as log:
                process = cast(
                    _Popen,
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_inheriting(theirs)
                    ),
                )
        except OSError as error:  # out of memory or processes: the other workers continue
            # The worker's end stays open until the failure is reported, so that the job is assigned and gets a reason.
            self._not_started.append((Ended(order.number, 0, error.strerror), theirs))
            return ours
        theirs.close()
        self._running[order.number] = process
        with suppress(OSError):  # if it has died already, `ended_workers` reports it
            ours.send(order)
        return ours

    def kill_worker(self, number: int) -> None:
        """Kill a worker, even a frozen one."""
        if number in self._running:
            _kill(self._running[number])

    def ended_workers(self) -> list[Ended]:
        """The workers that have ended since the last call."""
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
        """Kill every worker. A second call does nothing."""
        for process in self._running.values():
            _kill(process)
        for process in self._running.values():
            process.wait()
        self._running.clear()


def _inheriting(end: Connection[Any, Any]) -> Mapping[str, Any]:
    """Arguments of Popen: the process inherits this end of a pipe and nothing else; Ctrl-C reaches the driver only."""
    if sys.platform == "win32":
        os.set_handle_inheritable(end.fileno(), True)
        info = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [end.fileno()]})
        return {"startupinfo": info, "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"pass_fds": [end.fileno()], "start_new_session": True}


def _kill(process: _Popen) -> None:
    """Kill a process and, where possible, all that it started; nothing if it has been reaped."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def main(handle: int) -> None:
    """The worker itself: serve the driver at the other end of the pipe `handle`, which sends the order first."""
    from nas.execute.worker import serve_driver  # with everything that a worker imports

    pipe: Connection[Any, Any] = getattr(ends, "PipeConnection", Connection)(handle)  # the former on Windows
    with suppress(EOFError, OSError):  # the driver has ended already
        order: Start = pipe.recv()
        serve_driver(pipe, order, None)
