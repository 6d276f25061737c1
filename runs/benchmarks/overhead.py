"""What a search costs besides training: the share of wall time outside it, and the memory it holds.

Runs `nas search nash` on CIFAR-10 with children of about five seconds or more and asks `nas status --json` for
the overhead, while the memory of the driver and its workers is sampled (proportional set size: shared pages
count once).

    python runs/benchmarks/overhead.py --data-root DIR [--epochs X] [--quick]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from _common import OUT, figure, finish

from nas.ledger import read


def main() -> None:
    """Run the search, print overhead, seconds of the children and peak memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="where cifar-10-batches-py is")
    parser.add_argument("--quick", action="store_true", help="one generation of short children")
    parser.add_argument("--epochs", default="0.4", help="of each competitor: fewer on a slower processor")
    arguments = parser.parse_args()
    run = OUT / "overhead"
    shutil.rmtree(run, ignore_errors=True)
    size = [
        "--generations",
        "1" if arguments.quick else "8",
        "--epochs",
        "0.02" if arguments.quick else arguments.epochs,
    ]
    command = [sys.executable, "-m", "nas", "search", "nash", "--data", "cifar10", "--run", str(run), *size]
    process = subprocess.Popen([*command, "--data-root", str(arguments.data_root), "--quiet"])
    peak = Peak(process.pid)
    if process.wait() != 0:
        raise SystemExit("the search failed")
    peak.stop()
    answer = subprocess.run(
        [sys.executable, "-m", "nas", "status", str(run), "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    status = json.loads(answer.stdout)
    children = [
        record.result.seconds["train"] + record.result.seconds["evaluate"]
        for record in read(run).complete
        if record.result is not None and record.job.kind in ("child", "parent")
    ]
    print(
        f"{len(children)} competitors of {min(children):.1f} to {max(children):.1f} s, {status['seconds']:.0f} s in all"
    )
    finish(
        __file__,
        [
            figure("shortest competitor", min(children), "s", None if arguments.quick else ">= 5"),
            figure(
                "overhead, share of wall time", status["overhead"], "", None if arguments.quick else "<= 0.05"
            ),
            figure("peak memory of driver and workers", peak.bytes / 1e9, "GB", "<= 2"),
            figure("processes at the peak", peak.processes, "", None),
        ],
    )


class Peak:
    """The most memory a process and its descendants held together, sampled five times a second."""

    def __init__(self, pid: int) -> None:
        self.bytes, self.processes = 0, 0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            held = [proportional(pid) for pid in family(self._pid)]
            if sum(held) > self.bytes:
                self.bytes, self.processes = sum(held), len(held)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def proportional(pid: int) -> int:
    """Proportional set size in bytes; 0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
