"""What the live page costs a search: processor time of its server while a page is open, and of keeping learning curves.

Runs a search on digits with `watch=True`, asks for news as an open page does, and reads how much processor time the
server's process took: to start, and from then on as a share of one core. The time that the driver spends on writing
learning curves is a share of the search's wall time. Linux only: it reads /proc.

    python runs/benchmarks/live_page.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from _common import OUT, figure, finish

import nas
from nas.ledger import Ledger

MODULE = b"nas.report.companion"


class Reader(threading.Thread):
    """An open page: it asks for news, as often as it is told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.started: float | None = (
            None  # processor seconds of the server, when it had answered for the first time
        )
        self.since = self.last = 0.0
        self.used, self.answers = 0.0, 0
        self.over = False

    def run(self) -> None:
        """Ask until the server has ended."""
        while (found := server()) is None:
            time.sleep(0.2)
        pid, port = found
        version, wait = "", 0.5
        while not self.over:
            time.sleep(wait)
            with suppress(OSError, ValueError):
                address = f"http://127.0.0.1:{port}/news?since={version}"
                with urllib.request.urlopen(address, timeout=60) as answer:
                    news: dict[str, Any] = json.load(answer)
                version, wait = news["version"], news["wait"]
                self.used, self.last = processor_seconds(pid), time.monotonic()
                self.answers += 1
                if self.answers == 2:  # the first is mostly imports
                    self.started, self.since = self.used, self.last


def server() -> tuple[int, int] | None:
    """The process id and the port of the page's server, which is a child of this process."""
    me = os.getpid()
    for pid in Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if any(MODULE in word for word in words):
            return int(pid), int(words[5])
    return None


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the search and print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a search of half a minute")
    arguments = parser.parse_args()
    run = OUT / "live-page"
    shutil.rmtree(run, ignore_errors=True)
    spent, write = [0.0], Ledger.curve

    def timed(self: Ledger, points: Mapping[int, Any]) -> None:
        begun = time.perf_counter()
        write(self, points)
        spent[0] += time.perf_counter() - begun

    Ledger.curve = timed  # type: ignore[method-assign]
    reader = Reader()
    reader.start()
    begun = time.monotonic()
    epochs = 1 if arguments.quick else 20
    generations = 1 if arguments.quick else 6
    nas.search(
        "digits",
        run=run,
        quiet=True,
        watch=True,
        workers=1,
        generations=generations,
        epochs=epochs,
        children=3,
    )
    wall = time.monotonic() - begun
    reader.over = True
    if reader.started is None:
        raise SystemExit("the server answered less than twice; take a longer search")
    share = (reader.used - reader.started) / max(1e-9, reader.last - reader.since)
    print(f"{reader.answers} answers in {wall:.0f} s")
    finish(
        __file__,
        [
            figure(
                "server, while a page is open", share, "of one core", None if arguments.quick else "<= 0.01"
            ),
            figure("server, to start", reader.started, "processor seconds", None),
            figure("learning curves, in the driver", spent[0] / wall, "of the wall time", "<= 0.01"),
        ],
    )


if __name__ == "__main__":
    main()
