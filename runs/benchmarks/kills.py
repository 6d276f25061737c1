"""Kill a search at random instants with kill −9 and resume it each time: is anything lost, is the end the same?

One undisturbed search, then as many of the same seed as it takes, each killed `--per-run` times before it is left to
end. What each kill strikes is drawn:

    all       the driver, the process that workers are forked from, and the workers, at one instant
    driver    the driver alone; the others have to leave by themselves
    worker    a worker, in every third search; the driver goes on, and the trial fails or is given to another
    nursery   the process that workers are forked from, in those searches too

What the driver has said on its standard output is the log of acknowledged results: it is kept outside the run and
compared with the ledger after each kill, as is all that the ledger itself held before. A search in which no worker was
struck must end with the digest of the undisturbed one. The state is kept in out/: the same call goes on where it was
stopped; --fresh begins anew. (Ray's own processes are killed in tests/nas/ray/test_faults.py and ray_node_death.py.)

    python runs/benchmarks/kills.py [--kills 300] [--per-run 20] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from _common import OUT, figure, finish

from nas.ledger import LedgerView, read
from nas.ledger.files import atomic_write
from nas.ledger.view import decided
from nas.live import facts

IMPORTS = "import nas.cli, nas.drive"  # what the command itself imports
STATE = OUT / "kills.json"
WHOLE, TORN, LOG = OUT / "kills_whole", OUT / "kills_torn", OUT / "kills_torn.log"
LEAVE_SECONDS = 20.0
_TOLD = re.compile(r"\s\d+/\d+\s\s(\d+\.\d+)\s\s.*?\s\s(val .*|failed: .*)$")


@dataclass
class State:
    """What the calls so far have done. size: the options of the search. run: how many searches were killed before."""

    size: list[str]
    kills: dict[str, int] = field(default_factory=dict[str, int])
    run: int = 0
    in_run: int = 0
    lost: int = 0
    said: int = 0
    orphans: int = 0
    same: int = 0
    other: int = 0
    struck: int = 0
    imports: float = 0.0
    resume: list[float] = field(default_factory=list[float])
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """Kills of any kind."""
        return sum(self.kills.values())

    @property
    def digest_counts(self) -> bool:
        """Whether no worker is struck in the present search."""
        return self.run % 3 != 2

    def save(self) -> None:
        """Keep it, whole or not at all."""
        atomic_write(STATE, json.dumps(asdict(self)).encode())


def main() -> None:
    """Go on until enough kills are spent, and print what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--per-run", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="forget what former calls did")
    parser.add_argument("--quick", action="store_true", help="three kills in a shorter search, from anew")
    arguments = parser.parse_args()
    children, generations, epochs = ("2", "2", "2") if arguments.quick else ("4", "5", "20")
    size = ["--children", children, "--generations", generations, "--epochs", epochs, "--final-share", "0.1"]
    kills, per_run = (3, 3) if arguments.quick else (arguments.kills, arguments.per_run)
    state = state_of([*size, "--seed", str(arguments.seed)], arguments.fresh or arguments.quick)
    expected = whole(state)
    while state.total < kills or state.in_run:
        torment(state, expected, min(per_run, state.in_run + kills - state.total))
    print(f"undisturbed: {len(expected.complete)} trials, digest {expected.digest[:16]}")
    resume = state.resume or [0.0]
    finish(
        __file__,
        [
            figure("kills", state.total, "", ">= 300" if kills >= 300 else None),
            *(figure(f"of {name}", count, "", None) for name, count in sorted(state.kills.items())),
            figure("results acknowledged on standard output", state.said, "", None),
            figure("told results lost", state.lost, "trials", "<= 0"),
            figure("processes that outlived a killed driver", state.orphans, "", "<= 0"),
            figure("resume beyond imports, median", median(resume) - state.imports, "s", "<= 2"),
            figure("resume beyond imports, most", max(resume) - state.imports, "s", "<= 2"),
            figure("searches without a struck worker", state.same + state.other, "", None),
            figure("of them with another digest than the undisturbed", state.other, "", "<= 0"),
            figure("searches with struck workers that ended", state.struck, "", None),
            figure("wall time of all calls", state.seconds, "s", None),
        ],
    )


def state_of(size: list[str], fresh: bool) -> State:
    """What a former call left, if it was about the same search."""
    if STATE.exists() and not fresh:
        known = State(**json.loads(STATE.read_text()))
        if known.size == size:
            return known
    for folder in (WHOLE, TORN):
        shutil.rmtree(folder, ignore_errors=True)
    return State(size)


def nas(*words: str) -> list[str]:
    """A nas command line."""
    return [sys.executable, "-m", "nas", *words]


def whole(state: State) -> LedgerView:
    """The undisturbed search, made if need be; and how long the command imports."""
    begin = time.perf_counter()
    if not ((WHOLE / "ledger.db").exists() and read(WHOLE).final):
        shutil.rmtree(WHOLE, ignore_errors=True)
        subprocess.run([*nas("search", "digits"), *state.size, "--run", str(WHOLE), "--quiet"], check=True)
    if not state.imports:
        times = range(1 if "--quick" in sys.argv else 3)
        state.imports = median(seconds_of([sys.executable, "-c", IMPORTS]) for _ in times)
    state.seconds += time.perf_counter() - begin
    state.save()
    return read(WHOLE)


def seconds_of(command: list[str]) -> float:
    """Wall seconds of a command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def torment(state: State, expected: LedgerView, kills: int) -> None:
    """Kill the present search until it has been killed `kills` times, and let it end.

    Kills fall anywhere from the driver's readiness to a few shares of the work beyond a worker's start-up.
    """
    span = 2 * length(expected) / max(1, kills)
    while state.in_run < kills:
        begin = time.perf_counter()
        draw = random.Random(f"{state.size} {state.total}")
        known = held()
        process = start(state.size)
        ready = wait_for_work(process)
        if ready is not None and known:
            state.resume.append(ready)
        time.sleep(draw.uniform(0, span))
        if process.poll() is not None:  # the search has ended: there is nothing to kill
            break
        # Without its seed network, trained by the first worker, there is no search to torment.
        target = draw.choice(
            ("all", "driver", "worker", "nursery") if known and not state.digest_counts else ("all", "driver")
        )
        state.orphans += strike(process, target, draw)
        compare(state, known)
        state.kills[target] = state.kills.get(target, 0) + 1
        state.in_run += 1
        state.seconds += time.perf_counter() - begin
        state.save()
        told = len(read(TORN).complete) if (TORN / "ledger.db").exists() else 0
        print(f"  kill {state.total}, of {target}: {told} trials told", flush=True)
    end(state, expected)


def length(expected: LedgerView) -> float:
    """Seconds of the undisturbed search, without a worker's start-up."""
    first = expected.trials[0]
    assert first.result is not None
    ended = [record.finished for record in expected.trials if record.finished]
    return max(ended) - first.result.seconds["busy_from"]


def start(size: list[str]) -> subprocess.Popen[bytes]:
    """The search, or its resumption where there is one to resume; what it says goes to the log outside."""
    if (TORN / "ledger.db").exists():
        command = nas("resume", str(TORN))
    else:
        shutil.rmtree(TORN, ignore_errors=True)
        LOG.unlink(missing_ok=True)
        command = [*nas("search", "digits"), *size, "--run", str(TORN)]
    with LOG.open("ab") as log:
        return subprocess.Popen(command, start_new_session=True, stdout=log)


def strike(process: subprocess.Popen[bytes], target: str, draw: random.Random) -> int:
    """Kill `target`, then the rest; how many processes didn't leave by themselves when their driver was dead."""
    nurseries = children_of(process.pid)
    workers = [pid for nursery in nurseries for pid in children_of(nursery)]
    if target in ("worker", "nursery"):
        victims = workers if target == "worker" else nurseries
        if victims:
            kill(draw.choice(victims))
        time.sleep(draw.uniform(0.0, 1.0))  # the driver goes on; then it dies as well
        nurseries = children_of(process.pid)
        workers = [pid for nursery in nurseries for pid in children_of(nursery)]
    kill(process.pid)
    if target == "all":
        for pid in (*nurseries, *workers):
            kill(pid)
    process.wait()
    limit = time.monotonic() + LEAVE_SECONDS
    left = [*nurseries, *workers]
    while left and time.monotonic() < limit:
        left = [pid for pid in left if runs(pid)]
        time.sleep(0.02)
    for pid in left:
        kill(pid)
    return len(left)


def compare(state: State, known: dict[str, Any]) -> None:
    """Count what was held or acknowledged before and isn't there."""
    if not (TORN / "ledger.db").exists():
        state.lost += len(known)
        return
    view = read(TORN)
    now = {record.key: record for record in view.trials if record.state != "running"}
    gone = {key for key, value in known.items() if key not in now or decided(now[key]) != value}
    said = acknowledged()
    gone |= {key for key, text in said.items() if key not in now or _scores(facts(now[key])) != _scores(text)}
    state.lost += len(gone)
    state.said += len(said.keys() - known.keys())
    if gone:
        print(f"  LOST: {sorted(gone)}", flush=True)


def acknowledged() -> dict[str, str]:
    """What the drivers have said of each trial, in whole lines."""
    lines = LOG.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if LOG.exists() else []
    return {match[1]: match[2] for line in lines if (match := _TOLD.search(line))}


def _scores(text: str) -> str:
    """What was said, without the time it took."""
    return text.partition(" params")[0]


def held() -> dict[str, Any]:
    """What the ledger of the search to be killed holds as ended."""
    if not (TORN / "ledger.db").exists():
        return {}
    return {record.key: decided(record) for record in read(TORN).trials if record.state != "running"}


def end(state: State, expected: LedgerView) -> None:
    """Let the present search end, and forget it."""
    begin = time.perf_counter()
    known = held()
    code = start(state.size).wait()
    compare(state, known)
    ended = code == 0 and read(TORN).final is not None
    if state.digest_counts:
        same = ended and read(TORN).digest == expected.digest
        state.same, state.other = state.same + same, state.other + (not same)
    else:  # the search may have ended for want of a seed network or of a competitor
        state.struck += ended
    shutil.rmtree(TORN)
    state.run, state.in_run = state.run + 1, 0
    state.seconds += time.perf_counter() - begin
    state.save()


def wait_for_work(process: subprocess.Popen[bytes], run: Path = TORN) -> float | None:
    """Seconds until the driver has opened the ledger and a worker runs; None when it ended before."""
    begin = time.perf_counter()
    mark = run / "lock"
    while process.poll() is None and time.perf_counter() - begin < 120:
        if mark.exists() and holds(mark, process.pid) and any(map(children_of, children_of(process.pid))):
            return time.perf_counter() - begin
        time.sleep(0.01)
    return None


def holds(lock: Path, pid: int) -> bool:
    """Whether the lock file names this process."""
    try:
        return f'"pid": {pid},' in lock.read_text()
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that haven't ended."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def runs(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill −9."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
