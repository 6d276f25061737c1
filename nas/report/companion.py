"""`--watch`: the live page of a run that this process drives, served by a process of its own at a lower priority.

The server ends when the driver does, however that ends: the driver holds a pipe to its standard input. It stays a
moment so that an open page gets the end of the search.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config.run_config import RunConfig
from nas.ledger import LedgerView
from nas.run.events import Callback

if TYPE_CHECKING:
    from nas.report.serve import Live

HOST = "127.0.0.1"
NICENESS = 5  # beside busy workers it still starts in seconds; at the lowest priority that took minutes
ENDING, LONGEST = 6.0, 20.0  # seconds that the server stays after the driver's end, for pages that are open
OPEN = 60.0  # seconds since its last question after which a page counts as closed
_MAIN = "import json, sys; sys.path = json.loads(sys.argv[3]); from nas.report.companion import main; main()"


class Companion:
    """A callback that starts the page's server when the run begins. view: is told the page's address."""

    def __init__(self, view: Callback) -> None:
        self._view = view
        self._server: subprocess.Popen[bytes] | None = None

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Start the server and say where it is, unless the run is finished already."""
        if view.final is not None:
            return
        port = _free_port()
        paths = json.dumps([str(entry) for entry in sys.path])
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, str(run.absolute()), str(port), paths],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._server.wait, daemon=True).start()
        self._view.on_notice(f"watch it at http://{HOST}:{port}/")

    def close(self) -> None:
        """Let the server end, which it does by itself, soon after. May be called twice."""
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()


def _free_port() -> int:
    """A port that nobody listens on now; the server's process takes it a moment later."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def _until_driver_ends(live: Live) -> threading.Event:
    """An event that is set some time after the driver has closed its end of the pipe."""
    done = threading.Event()

    def wait() -> None:
        with suppress(OSError):
            sys.stdin.buffer.read()
        end = time.monotonic() + min(LONGEST, max(ENDING, 1.5 * live.wait))
        while time.monotonic() < end and time.monotonic() - live.asked < OPEN and not live.told_over:
            time.sleep(0.2)
        time.sleep(0.5)  # the last answer is on its way
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    return done


def main() -> None:
    """Serve the run and the port that the command line names."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    from nas.report.serve import Server, serve  # the driver does without these imports

    server = Server([Path(sys.argv[1])], int(sys.argv[2]))
    done = _until_driver_ends(server.live)
    serve(server, done.is_set)


if __name__ == "__main__":
    main()
