"""Kill a search at random instants with kill −9 and resume it each time: is anything lost, is the end the same?

One undisturbed search, then as many of the same seed as it takes, each killed `--per-run` times before it is left to
end. What each kill strikes is drawn:

    all       the driver, the process that workers are forked from, and the workers, at one instant
    driver    the driver alone; the others have to leave by themselves
    worker    a worker, in every third search; the driver goes on, and the trial fails or is given to another
    nursery   the process that workers are forked from, in those searches too

With --executor ray, where Ray is started for each driver anew, `all` is all that descends from the driver, `worker` one
of Ray's worker processes, and instead of the nursery

    raylet    Ray's daemon alone, in every search: the driver must end by itself, with code 1 and one line that names
              `nas resume`

What the driver has said on its standard output is the log of acknowledged results: it is kept outside the run and
compared with the ledger after each kill, as is all that the ledger itself held before. A search in which no worker was
struck must end with the digest of the undisturbed one. All that descends from a driver must have left soon after it,
however it ended. The state is kept in out/, each executor's for itself: the same call goes on where it was stopped;
--fresh begins anew. (A node of a Ray cluster is killed in ray_node_death.py.)

How long resuming takes is told less the imports and, with Ray, less the start of its daemons: a process that does
nothing but that is timed when the undisturbed search is made, and not again before each kill.

    python runs/benchmarks/kills.py [--executor local|ray] [--kills N] [--per-run N] [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from _common import figure, finish
from _courses import COURSES, Course
from _processes import below, kill, members, outlive, title

from nas.cli.live import facts
from nas.ledger import LedgerView, read
from nas.ledger.files import atomic_write
from nas.ledger.view import decided

IMPORTS = "import nas.cli.commands, nas.cli.drive"  # what the command itself imports
STARTS = {
    "local": IMPORTS,
    "ray": f"""{IMPORTS}, nas.execute.ray, os, pathlib
from nas.registry.configure import make_config
from nas.execute.ray.session import connect
session = connect(make_config("digits", {{"executor": "ray"}}), pathlib.Path(os.devnull))
print("started", flush=True)
session.close()""",
}  # what a driver does before it can have a worker
NOTICE_SECONDS = 30.0  # in which a driver whose Ray has died must have ended
_TOLD = re.compile(r"\s\d+/\d+\s\s(\d+\.\d+)\s\s.*?\s\s(val .*|failed: .*)$")


@dataclass
class State:
    """What the calls so far have done. size: the options of the search. run: how many searches were killed before.

    missed: searches that ended before their kill. deaf: drivers that did not end as they should when the raylet was
    dead. imports: seconds of what a driver does before it can have a worker. warm: seconds from a worker process's
    start to its first work.
    """

    size: list[str]
    kills: dict[str, int] = field(default_factory=dict[str, int])
    run: int = 0
    in_run: int = 0
    missed: int = 0
    lost: int = 0
    said: int = 0
    orphans: int = 0
    deaf: int = 0
    same: int = 0
    other: int = 0
    struck: int = 0
    imports: float = 0.0
    warm: float = 0.0
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

    def save(self, course: Course) -> None:
        """Keep it, whole or not at all."""
        atomic_write(course.state, json.dumps(asdict(self)).encode())


def main() -> None:
    """Go on until enough kills are spent, and print what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executor", choices=tuple(COURSES), default="local")
    parser.add_argument("--kills", type=int, help="300, with Ray 20")
    parser.add_argument("--per-run", type=int, help="20, with Ray 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="forget what former calls did")
    parser.add_argument("--quick", action="store_true", help="three kills in a shorter search, from anew")
    arguments = parser.parse_args()
    course = COURSES[arguments.executor]
    children, generations, epochs = ("2", "2", "2") if arguments.quick else course.size
    size = ["--children", children, "--generations", generations, "--epochs", epochs, "--final-share", "0.1"]
    size += ["--seed", str(arguments.seed)]
    size += [] if course.executor == "local" else ["--executor", course.executor]
    kills = 3 if arguments.quick else arguments.kills or course.kills
    per_run = 3 if arguments.quick else arguments.per_run or course.per_run
    state = state_of(course, size, arguments.fresh or arguments.quick)
    expected = whole(course, state)
    while state.total < kills or state.in_run:
        torment(course, state, expected, min(per_run, state.in_run + kills - state.total))
    print(f"undisturbed: {len(expected.complete)} trials, digest {expected.digest[:16]}")
    resume = state.resume or [0.0]
    ray = course.executor == "ray"
    beyond = "resume beyond imports and Ray's start" if ray else "resume beyond imports"
    finish(
        __file__,
        [
            figure("kills", state.total, "", ">= 300" if kills >= 300 else None),
            *(figure(f"of {name}", count, "", None) for name, count in sorted(state.kills.items())),
            figure("results acknowledged on standard output", state.said, "", None),
            figure("told results lost", state.lost, "trials", "<= 0"),
            figure("processes that outlived a killed driver", state.orphans, "", "<= 0"),
            *([figure("drivers that did not notice a dead raylet", state.deaf, "", "<= 0")] if ray else []),
            figure(f"{beyond}, median", median(resume) - state.imports, "s", "<= 2"),
            figure(f"{beyond}, most", max(resume) - state.imports, "s", "<= 2"),
            figure("searches without a struck worker", state.same + state.other, "", None),
            figure("of them with another digest than the undisturbed", state.other, "", "<= 0"),
            figure("searches with struck workers that ended", state.struck, "", None),
            figure("wall time of all calls", state.seconds, "s", None),
        ],
    )


def state_of(course: Course, size: list[str], fresh: bool) -> State:
    """What a former call left, if it was about the same search."""
    if course.state.exists() and not fresh:
        known = State(**json.loads(course.state.read_text()))
        if known.size == size:
            return known
    for folder in (course.whole, course.torn):
        shutil.rmtree(folder, ignore_errors=True)
    return State(size)


def nas(*words: str) -> list[str]:
    """A nas command line."""
    return [sys.executable, "-m", "nas", *words]


def whole(course: Course, state: State) -> LedgerView:
    """The undisturbed search, made if need be; and how long a driver takes to get ready for it."""
    begin = time.perf_counter()
    if not ((course.whole / "ledger.db").exists() and read(course.whole).final):
        shutil.rmtree(course.whole, ignore_errors=True)
        command = [*nas("search", "digits"), *state.size, "--run", str(course.whole), "--quiet"]
        process = subprocess.Popen(command)
        wait_for_work(process, course.whole, course.executor)
        ready = time.time()
        if process.wait():
            raise SystemExit(f"the undisturbed search ended with code {process.returncode}")
        if course.executor == "ray":  # local workers are forked from what has imported everything
            state.warm = max(0.0, first_work(read(course.whole)) - ready)
    if not state.imports:
        command = [sys.executable, "-c", STARTS[course.executor]]
        times = range(1 if "--quick" in sys.argv else 3)
        state.imports = median(seconds_of(command, course.executor == "ray") for _ in times)
    state.seconds += time.perf_counter() - begin
    state.save(course)
    return read(course.whole)


def seconds_of(command: list[str], until_said: bool = False) -> float:
    """Wall seconds of a command, or of what it does until it says its first word."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE if until_said else None) as process:
        if process.stdout is None:
            process.wait()
        else:
            process.stdout.readline()
        took = time.perf_counter() - begin
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return took


def torment(course: Course, state: State, expected: LedgerView, kills: int) -> None:
    """Kill the present search until it has been killed `kills` times, and let it end.

    Kills fall anywhere from the driver's readiness to a few shares of the work beyond a worker's start-up.
    """
    span = state.warm + length(expected) * min(1.0, 2 / max(1, kills))
    while state.in_run < kills:
        begin = time.perf_counter()
        draw = random.Random(f"{state.size} {state.total}" + f" {state.missed}" * (state.missed > 0))
        known = held(course)
        process = start(course, state.size)
        ready = wait_for_work(process, course.torn, course.executor)
        if ready is not None and known:
            state.resume.append(ready)
        time.sleep(draw.uniform(0, span))
        if process.poll() is not None:  # the search has ended: there is nothing to kill
            state.missed += 1  # else the same instant would be drawn for the next search, again and again
            break
        # Without its seed network, trained by the first worker, there is no search to torment.
        parts = course.parts if known and not state.digest_counts else ()
        target = draw.choice((*course.targets, *parts))
        strike(course, state, process, target, draw)
        compare(course, state, known)
        state.kills[target] = state.kills.get(target, 0) + 1
        state.in_run += 1
        state.seconds += time.perf_counter() - begin
        state.save(course)
        told = len(read(course.torn).complete) if course.going_on else 0
        print(f"  kill {state.total}, of {target}: {told} trials told", flush=True)
    end(course, state, expected)


def length(expected: LedgerView) -> float:
    """Seconds of the undisturbed search, without a worker's start-up."""
    ended = [record.finished for record in expected.trials if record.finished]
    return max(ended) - first_work(expected)


def first_work(expected: LedgerView) -> float:
    """When the undisturbed search's first worker was at work, in seconds since the epoch."""
    first = expected.trials[0]
    assert first.result is not None
    return first.result.seconds["busy_from"]


def start(course: Course, size: list[str]) -> subprocess.Popen[bytes]:
    """The search, or its resumption where there is one to resume; what it says goes to the log outside."""
    if course.going_on:
        command = nas("resume", str(course.torn))
    else:
        shutil.rmtree(course.torn, ignore_errors=True)
        course.log.unlink(missing_ok=True)
        command = [*nas("search", "digits"), *size, "--run", str(course.torn)]
    with course.log.open("ab") as log, course.complaints.open("wb") as complaints:
        return subprocess.Popen(command, start_new_session=True, stdout=log, stderr=complaints)


def strike(
    course: Course, state: State, process: subprocess.Popen[bytes], target: str, draw: random.Random
) -> None:
    """Kill `target`, then the driver, and count the processes that didn't leave by themselves when it was dead.

    A driver whose raylet is the target has to end by itself.
    """
    crowd = below([process.pid])  # what is below a process that is killed can't be found any more
    if target not in ("all", "driver"):
        victims = members(course.executor, process.pid, target)
        if victims:
            kill(draw.choice(victims))
        if target == "raylet":
            state.deaf += not noticed(course, process)
        else:
            time.sleep(draw.uniform(0.0, 1.0))  # the driver goes on; then it dies as well
            crowd |= below([process.pid])
    kill(process.pid)
    if target == "all":
        for pid in crowd:
            kill(pid)
    process.wait()
    report_complaints(course)
    left = outlive(crowd, course.leave)
    for pid in left:
        print(f"  OUTLIVED its driver: {pid} {title(pid)}", flush=True)
        kill(pid)
    state.orphans += len(left)


def noticed(course: Course, process: subprocess.Popen[bytes]) -> bool:
    """Whether a driver whose raylet is dead ends in time, with code 1 and one line that says how to go on.

    One that had all its results by then may end as if nothing had happened.
    """
    try:
        code = process.wait(NOTICE_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"  DEAF: the driver still runs {NOTICE_SECONDS:.0f} s after its raylet's death", flush=True)
        return False
    lines = course.complaints.read_text(encoding="utf-8", errors="replace").splitlines()
    if code == 1 and len(lines) == 1 and "nas resume" in lines[0]:
        return True
    if code == 0 and read(course.torn).final is not None:
        return True
    print(f"  DEAF: the driver ended with code {code} after its raylet's death", flush=True)
    return False


def report_complaints(course: Course) -> None:
    """Pass on what the last driver has said on standard error."""
    print(
        course.complaints.read_text(encoding="utf-8", errors="replace"), end="", file=sys.stderr, flush=True
    )


def compare(course: Course, state: State, known: dict[str, Any]) -> None:
    """Count what was held or acknowledged before and isn't there."""
    if not course.going_on:
        state.lost += len(known)
        return
    view = read(course.torn)
    now = {record.key: record for record in view.trials if record.state != "running"}
    gone = {key for key, value in known.items() if key not in now or decided(now[key]) != value}
    said = acknowledged(course)
    gone |= {key for key, text in said.items() if key not in now or _scores(facts(now[key])) != _scores(text)}
    state.lost += len(gone)
    state.said += len(said.keys() - known.keys())
    if gone:
        print(f"  LOST: {sorted(gone)}", flush=True)


def acknowledged(course: Course) -> dict[str, str]:
    """What the drivers have said of each trial, in whole lines."""
    if not course.log.exists():
        return {}
    lines = course.log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return {match[1]: match[2] for line in lines if (match := _TOLD.search(line))}


def _scores(text: str) -> str:
    """What was said, without the time it took."""
    return text.partition(" params")[0]


def held(course: Course) -> dict[str, Any]:
    """What the ledger of the search to be killed holds as ended."""
    if not course.going_on:
        return {}
    return {record.key: decided(record) for record in read(course.torn).trials if record.state != "running"}


def end(course: Course, state: State, expected: LedgerView) -> None:
    """Let the present search end, and forget it."""
    begin = time.perf_counter()
    known = held(course)
    code = start(course, state.size).wait()
    report_complaints(course)
    compare(course, state, known)
    ended = code == 0 and read(course.torn).final is not None
    if state.digest_counts:
        same = ended and read(course.torn).digest == expected.digest
        state.same, state.other = state.same + same, state.other + (not same)
    else:  # the search may have ended for want of a seed network or of a competitor
        state.struck += ended
    shutil.rmtree(course.torn)
    state.run, state.in_run = state.run + 1, 0
    state.seconds += time.perf_counter() - begin
    state.save(course)


def wait_for_work(process: subprocess.Popen[bytes], run: Path, executor: str = "local") -> float | None:
    """Seconds until the driver has opened the ledger and a worker runs; None when it ended before."""
    begin = time.perf_counter()
    mark = run / "lock"
    while process.poll() is None and time.perf_counter() - begin < 120:
        if mark.exists() and holds(mark, process.pid) and members(executor, process.pid, "worker"):
            return time.perf_counter() - begin
        time.sleep(0.05 if executor == "ray" else 0.01)  # all of /proc is read for Ray
    return None


def holds(lock: Path, pid: int) -> bool:
    """Whether the lock file names this process."""
    try:
        return f'"pid": {pid},' in lock.read_text()
    except OSError:
        return False


if __name__ == "__main__":
    main()
