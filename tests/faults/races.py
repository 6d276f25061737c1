"""Two to eight drivers race for one run, again and again: is there exactly one owner, and do the others say who it is?

Each race: drivers are forked, wait for one signal, and open the run (every tenth race: make it). The owner is then
killed with −9, and how long the next one needs to take the lock over is measured; in every second race a child that the
dead driver had forked lives on meanwhile.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from statistics import median

from faults.cases import in_memory
from faults.figures import Figure
from faults.small_run import CONFIG, RUN, drive, quiet

from nas.base.errors import RunError
from nas.ledger import Ledger
from nas.ledger.driver_lock import Lock


def race_all(races: int) -> list[Figure]:
    """The figures of so many races."""
    quiet()
    draw, begin = Random(0), time.process_time() + children_seconds()
    found: Counter[str] = Counter()
    owners: Counter[int] = Counter()
    taken_over: list[float] = []
    with in_memory("races-") as folder:
        (folder / "root").mkdir()
        drive(folder / "root", 2)
        for number in range(races):
            run = folder / ("new" if number % 10 == 9 else "root") / RUN
            if number % 10 == 9:
                shutil.rmtree(folder / "new", ignore_errors=True)
                (folder / "new").mkdir()
            said, seconds = race(run, draw.randint(2, 8), orphan=number % 2 == 1)
            owners[said["owner"]] += 1
            found += said
            taken_over.append(seconds)
            if number % 20 == 19:
                print(f"  {number + 1} races, {races_without(owners)} without exactly one owner", flush=True)
    spent = time.process_time() + children_seconds() - begin
    refused = found["named the owner"] + found["named nobody"] + found["something else"]
    return [
        Figure("races", races, "", ">= 200" if races >= 200 else None),
        Figure("drivers", found["owner"] + refused, "", None),
        Figure("races without exactly one owner", races_without(owners), "", "<= 0"),
        Figure("refused with the owner's name", found["named the owner"], "", None),
        Figure("refused without the owner's name", found["named nobody"], "", "<= 0"),
        Figure("neither owner nor refused", found["something else"], "", "<= 0"),
        Figure("from a driver's death to the next one's lock, median", median(taken_over), "s", None),
        Figure("from a driver's death to the next one's lock, most", max(taken_over), "s", "<= 2"),
        Figure("processor time", spent, "s", None),
    ]


def races_without(owners: Counter[int]) -> int:
    """Races that had not exactly one owner. owners: how many races had so many."""
    return owners.total() - owners[1]


def race(run: Path, drivers: int, orphan: bool) -> tuple[Counter[str], float]:
    """How often each thing was said, and the seconds from the owner's death to the next lock. Whoever is refused names
    the owner, nobody, or says something else.
    """
    start, go = os.pipe()
    answers, answer = os.pipe()
    pids = [_driver(run, (start, go, answers, answer), orphan) for _ in range(drivers)]
    try:
        for end in (start, answer, go):  # all begin
            os.close(end)
        lines = [_line(answers) for _ in range(drivers)]
        os.close(answers)
        owners = [int(line.split()[1]) for line in lines if line.startswith("owner ")]
        for owner in owners:
            os.kill(owner, signal.SIGKILL)
        begin = time.perf_counter()
        Lock(run / "lock").close()
        return counted(lines, owners), time.perf_counter() - begin
    finally:
        for pid in pids:
            os.killpg(pid, signal.SIGKILL)  # not reaped yet, so that the number is still its own
            os.waitpid(pid, 0)


def counted(lines: list[str], owners: list[int]) -> Counter[str]:
    """How often each thing was said."""
    said: Counter[str] = Counter(owner=len(owners))
    for line in lines:
        if any(f"in use by process {owner} on " in line for owner in owners):
            said["named the owner"] += 1
        elif "in use by another process" in line:
            said["named nobody"] += 1
        elif not line.startswith("owner "):
            said["something else"] += 1
            print(f"  {line}", flush=True)
    return said


def _driver(run: Path, pipes: tuple[int, int, int, int], orphan: bool) -> int:
    """Fork a driver, the leader of a group, that takes the run as soon as it may, says so and stays."""
    start, go, answers, answer = pipes
    pid = os.fork()
    if pid:
        with suppress(OSError):  # whichever of the two does it first
            os.setpgid(pid, pid)
        return pid
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        os.close(go)
        os.close(answers)
        os.read(start, 1)  # until all ends are closed
        try:
            ledger = Ledger.open(run) if (run / "ledger.db").exists() else Ledger.create(run, CONFIG)
            if orphan and not os.fork():
                os.close(answer)
                signal.pause()
            os.write(answer, f"owner {os.getpid()}\n".encode())
            signal.pause()
            ledger.close()
        except RunError as error:
            os.write(answer, f"refused {error}\n".encode())
    except BaseException:
        os.write(answer, f"{traceback.format_exc()[-400:]!r}\n".encode())
    signal.pause()
    os._exit(0)


def _line(descriptor: int) -> str:
    letters = bytearray()
    while (letter := os.read(descriptor, 1)) not in (b"\n", b""):
        letters += letter
    return letters.decode()


def children_seconds() -> float:
    """Processor seconds of the processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system
