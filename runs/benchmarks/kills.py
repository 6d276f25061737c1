"""Kill a search at random instants with kill −9, resume it each time: is anything lost, is the end the same?

Two runs with one seed: one undisturbed, one killed (the whole process group) at random instants until it has
been killed as often as asked. Every trial that the interrupted run ever told is compared after each kill.

    python runs/benchmarks/kills.py [--kills 20] [--quick]
"""

from __future__ import annotations

import argparse
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

from nas.ledger import LedgerView, read
from nas.ledger.view import decided

IMPORTS = "import nas.cli, nas.drive"  # what the command itself imports


def main() -> None:
    """Run both searches and print what was lost, how long resuming took, and whether the digests agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="three kills in a shorter search")
    arguments = parser.parse_args()
    kills = 3 if arguments.quick else arguments.kills
    size = ["--children", "2" if arguments.quick else "4", "--generations", "2" if arguments.quick else "5"]
    size += ["--epochs", "20", "--final-share", "0.1", "--seed", str(arguments.seed)]

    whole, torn = OUT / "kills_whole", OUT / "kills_torn"
    for run in (whole, torn):
        shutil.rmtree(run, ignore_errors=True)
    begin = time.perf_counter()
    subprocess.run([*nas("search", "digits"), *size, "--run", str(whole), "--quiet"], check=True)
    length = time.perf_counter() - begin
    imports = median(seconds_of([sys.executable, "-c", IMPORTS]) for _ in range(3))

    expected = read(whole)
    lead = start_up(expected)
    command = [*nas("search", "digits"), *size, "--run", str(torn), "--quiet"]
    outcome = torment(torn, command, kills, lead, (length - lead) / kills, imports)
    found = read(torn)
    print(f"uninterrupted: {len(expected.complete)} trials in {length:.0f} s, digest {expected.digest[:16]}")
    print(
        f"killed {kills} times: {len(found.complete)} trials, digest {found.digest[:16]}; imports take {imports:.2f} s"
    )
    finish(
        __file__,
        [
            figure("kills", kills, "", ">= 20" if not arguments.quick else None),
            figure("told results lost", outcome["lost"], "trials", "<= 0"),
            figure("resume beyond imports, median", median(outcome["resume"]), "s", "<= 2"),
            figure("resume beyond imports, most", max(outcome["resume"]), "s", "<= 2"),
            figure("digest equals the uninterrupted run's", int(expected.digest == found.digest), "", ">= 1"),
        ],
    )


def nas(*words: str) -> list[str]:
    """A nas command line."""
    return [sys.executable, "-m", "nas", *words]


def seconds_of(command: list[str]) -> float:
    """Wall seconds of a command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def start_up(view: LedgerView) -> float:
    """Seconds from the first job's asking to its first training step: a worker's imports, mostly."""
    first = view.trials[0]
    assert first.result is not None
    return first.result.seconds["busy_from"] - first.started


def torment(
    run: Path, first: list[str], kills: int, lead: float, share: float, imports: float
) -> dict[str, Any]:
    """Start, kill and resume until `kills` are spent, then let it finish.

    Kills fall anywhere from the driver's readiness to a few shares of the work beyond a worker's start-up.
    """
    draw = random.Random(1)
    told: dict[str, Any] = {}
    lost = 0
    resume: list[float] = []
    command = first
    for number in range(kills):
        process = start(command)
        ready = wait_for_work(run, process, told)
        if number and ready is not None:
            resume.append(ready - imports)
        time.sleep(draw.uniform(0, lead + 2 * share))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        command = [*nas("resume", str(run)), "--quiet"] if (run / "ledger.db").exists() else first
        if command is first:
            shutil.rmtree(run, ignore_errors=True)
            continue
        now = {record.key: decided(record) for record in read(run).trials if record.state != "running"}
        lost += sum(now.get(key) != value for key, value in told.items())
        told = now
        print(f"  kill {number + 1}: {len(told)} trials told", flush=True)
    process = start(command)
    process.wait()
    if process.returncode != 0:
        raise SystemExit(f"the last resume ended with code {process.returncode}")
    now = {record.key: decided(record) for record in read(run).trials}
    lost += sum(now.get(key) != value for key, value in told.items())
    return {"lost": lost, "resume": resume or [0.0]}


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own."""
    return subprocess.Popen(command, start_new_session=True)


def wait_for_work(run: Path, process: subprocess.Popen[bytes], told: dict[str, Any]) -> float | None:
    """Seconds until the driver has opened the ledger and handed its first job out; None when it ended before."""
    begin = time.perf_counter()
    mark = run / "lock"
    while process.poll() is None and time.perf_counter() - begin < 60:
        if mark.exists() and holds(mark, process.pid) and worker_runs(process.pid):
            return time.perf_counter() - begin
        time.sleep(0.01)
    return None


def holds(lock: Path, pid: int) -> bool:
    """Whether the lock file names this process."""
    try:
        return str(pid) in lock.read_text()
    except OSError:
        return False


def worker_runs(pid: int) -> bool:
    """Whether the process has spawned a worker."""
    try:
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return False


if __name__ == "__main__":
    main()
