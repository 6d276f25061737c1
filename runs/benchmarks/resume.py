"""One search with 1, 2 and 4 workers, killed 0, 1 and 20 times: are the ledger and every weight the same, bit for bit?

Each run is a real `nas search`, its whole process group killed with kill −9 at random instants and resumed each time
(kills.py strikes single processes), in an environment whose OMP_NUM_THREADS differs from run to run: the number of
threads is for --threads alone to say. Compared are the ledger's digest and the SHA-256 of every trial's weights as
they lie on the disk.

    python runs/benchmarks/resume.py [--seed N] [--threads N] [--quick]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from _common import OUT, figure, finish
from kills import IMPORTS, nas, seconds_of, wait_for_work

from nas.ledger import Store, read

OMP = (None, "1", "2")  # what the environment says, in turn; None: nothing


def main() -> None:
    """Run all searches and print how many came to other bits, and how long it took to be at work again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="1 and 2 workers, 0 and 2 kills")
    arguments = parser.parse_args()
    cells = [
        (w, k)
        for w in ((1, 2) if arguments.quick else (1, 2, 4))
        for k in ((0, 2) if arguments.quick else (0, 1, 20))
    ]
    size = ["--children", "2" if arguments.quick else "3", "--generations", "1" if arguments.quick else "2"]
    size += ["--epochs", "10" if arguments.quick else "20", "--final-share", "0.4"]
    size += ["--seed", str(arguments.seed), "--threads", str(arguments.threads), "--quiet"]

    told: list[dict[str, str]] = []
    waits: list[float] = []
    length = 0.0  # seconds of a run that is not killed
    struck = 0
    for number, (workers, kills) in enumerate(cells):
        run = OUT / f"resume_{workers}_{kills}"
        shutil.rmtree(run, ignore_errors=True)
        threads = OMP[number % len(OMP)]
        os.environ.pop("OMP_NUM_THREADS", None)
        os.environ.update({} if threads is None else {"OMP_NUM_THREADS": threads})
        command = [*nas("search", "digits"), *size, "--workers", str(workers), "--run", str(run)]
        if kills:
            times, alive = torment(run, command, kills, length / kills)
            waits += times
            struck += alive
        else:
            subprocess.run(command, check=True)
            length = float(read(run).notes["wall"])
        told.append(bits(run))
        same = "the same bits" if told[-1] == told[0] else "OTHER BITS"
        print(f"{workers} workers, {kills} kills, OMP_NUM_THREADS={threads}: {same}", flush=True)
    finish(
        __file__,
        [
            figure("runs", len(told), "", None),
            figure("weights compared in each", len(told[0]) - 1, "", None),
            figure("runs with other bits than the first", sum(each != told[0] for each in told), "", "== 0"),
            figure("kills that met a living process", struck, "", None),
            figure("restarts timed", len(waits), "", None),
            figure("restart beyond imports, median", median(waits), "s", "<= 2"),
            figure("restart beyond imports, most", max(waits), "s", "<= 2"),
        ],
    )


def torment(run: Path, command: list[str], kills: int, most: float) -> tuple[list[float], int]:
    """Start, kill within `most` seconds of being at work, and resume, `kills` times, then let it end.

    Returns the seconds that each resumption took until a worker ran, less those of the imports alone, measured just
    before in a process of their own, and how many kills came before the end.
    """
    draw, waits, struck = random.Random(kills), list[float](), 0
    for number in range(kills + 1):
        going_on = (run / "ledger.db").exists()
        if not going_on:
            shutil.rmtree(run, ignore_errors=True)
        imports = seconds_of([sys.executable, "-c", IMPORTS])
        again = [*nas("resume", str(run)), "--quiet"] if going_on else command
        process = subprocess.Popen(again, start_new_session=True)
        ready = wait_for_work(process, run)
        waits += [ready - imports] if going_on and ready is not None else []
        if number < kills:
            time.sleep(draw.uniform(0, most))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                struck += 1
        if process.wait() and number == kills:
            raise SystemExit(f"the last resume ended with code {process.returncode}")
    return waits, struck


def bits(run: Path) -> dict[str, Any]:
    """The ledger's digest, and for each trial the SHA-256 of the file that holds its weights."""
    view, store = read(run), Store(run / "checkpoints")
    found: dict[str, Any] = {"ledger": view.digest}
    for record in view.complete:
        assert record.result is not None
        file = store.path(record.result.weights) / "weights.safetensors"
        found[record.key] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    main()
