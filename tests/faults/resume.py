"""One search with 1, 2 and 4 workers, killed 0, 1 and 20 times: are the ledger and every weight the same, bit for bit?

Each run is a real `nas search`, its whole process group killed with kill −9 at random instants and resumed each time
(kills.py kills single processes), in an environment whose OMP_NUM_THREADS differs from run to run: the number of
threads is for --threads alone to say. Compared are the ledger's digest and the SHA-256 of every trial's weights as
they lie on the disk.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from faults.figures import Figure
from faults.kills import IMPORTS, nas, seconds_of, wait_for_work

from nas.ledger import Store, read

OMP = (None, "1", "2")  # what the environment says, in turn; None: nothing


WHOLE = tuple((workers, kills) for workers in (1, 2, 4) for kills in (0, 1, 20))
SHORT = tuple((workers, kills) for workers in (1, 2) for kills in (0, 2))


def compared(folder: Path, cells: Sequence[tuple[int, int]], seed: int = 0, threads: int = 1) -> list[Figure]:
    """Run a search for each cell, (workers, kills); the first of each number of workers is not killed."""
    short = cells == SHORT
    size = ["--children", "2" if short else "3", "--generations", "1" if short else "2"]
    size += ["--epochs", "10" if short else "20", "--final-share", "0.4"]
    size += ["--seed", str(seed), "--threads", str(threads), "--quiet"]

    told: list[dict[str, str]] = []
    waits: list[float] = []
    length = 0.0  # seconds of a run that is not killed
    met = 0
    for number, (workers, kills) in enumerate(cells):
        run = folder / f"{workers}_{kills}"
        environment = environment_of(OMP[number % len(OMP)])
        command = [*nas("search", "digits"), *size, "--workers", str(workers), "--run", str(run)]
        if kills:
            times, alive = kill_and_resume(run, command, kills, length / kills, environment)
            waits += times
            met += alive
        else:
            subprocess.run(command, check=True, env=environment)
            length = read(run).notes.wall
        told.append(bits(run))
        same = "the same bits" if told[-1] == told[0] else "OTHER BITS"
        print(
            f"{workers} workers, {kills} kills, OMP_NUM_THREADS={OMP[number % len(OMP)]}: {same}", flush=True
        )
    return [
        Figure("runs", len(told)),
        Figure("weights compared in each", len(told[0]) - 1, "", "> 0"),
        Figure("runs with other bits than the first", sum(each != told[0] for each in told), "", "== 0"),
        Figure("kills of a living process", met),
        Figure("restarts timed", len(waits), "", "> 0"),
        Figure("restart beyond imports, median", median(waits or [0.0]), "s", "<= 2"),
        Figure("restart beyond imports, most", max(waits, default=0.0), "s", "<= 2"),
    ]


def environment_of(threads: str | None) -> dict[str, str]:
    """This process's environment with another OMP_NUM_THREADS, or without."""
    known = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return known if threads is None else {**known, "OMP_NUM_THREADS": threads}


def kill_and_resume(
    run: Path, command: list[str], kills: int, most: float, environment: Mapping[str, str]
) -> tuple[list[float], int]:
    """Start, kill within `most` seconds of being at work, and resume, `kills` times, then let it end.

    Returns the seconds that each resumption took until a worker ran, less those of the imports alone, measured just
    before in a process of their own, and how many kills came before the end.
    """
    draw, waits, met = random.Random(kills), list[float](), 0
    for number in range(kills + 1):
        going_on = (run / "ledger.db").exists()
        if not going_on:
            shutil.rmtree(run, ignore_errors=True)
        imports = seconds_of([sys.executable, "-c", IMPORTS])
        again = [*nas("resume", str(run)), "--quiet"] if going_on else command
        process = subprocess.Popen(again, start_new_session=True, env=environment)
        ready = wait_for_work(process, run)
        waits += [ready - imports] if going_on and ready is not None else []
        if number < kills:
            time.sleep(draw.uniform(0, most))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                met += 1
        if process.wait() and number == kills:
            raise SystemExit(f"the last resume ended with code {process.returncode}")
    return waits, met


def bits(run: Path) -> dict[str, Any]:
    """The ledger's digest, and for each trial the SHA-256 of the file that holds its weights."""
    view, store = read(run), Store(run / "checkpoints")
    found: dict[str, Any] = {"ledger": view.digest}
    for record in view.complete:
        assert record.result is not None
        file = store.path(record.result.weights) / "weights.safetensors"
        found[record.key] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found
