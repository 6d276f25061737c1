"""Kill a search at random instants with kill −9 and resume it each time: is anything lost, is the end the same?

One undisturbed search, then as many of the same seed as it takes, each killed `--per-run` times before it is left to
end. What each kill ends is drawn at random:

    all       the driver, the process that workers are forked from, and the workers, at one instant
    driver    the driver alone; the others have to leave by themselves
    worker    a worker, in every third search; the driver goes on, and the trial fails or is given to another
    fork server   the process that workers are forked from, in those searches too

With Ray, where Ray is started for each driver anew, `all` is all that descends from the driver, `worker` one
of Ray's worker processes, and instead of the fork server

    raylet    Ray's daemon alone, in every search: the driver must end by itself, with code 1 and one line that names
              `nas resume`

What the driver has said on its standard output is the log of acknowledged results: it is kept outside the run and
compared with the ledger after each kill, as is all that the ledger itself held before. A search in which no worker was
killed must end with the digest of the undisturbed one. All that descends from a driver must have left soon after it,
however it ended. The state is kept in out/, one for each executor: the same test goes on where it was stopped.
(A node of a Ray cluster is killed in ray_node_death.py.)

How long resuming takes is told less the imports and, with Ray, less the start of its daemons: a process that does
nothing but that is timed when the undisturbed search is made, and not again before each kill.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from faults.figures import Figure
from faults.kill_plans import SHORT, KillPlan
from faults.kill_state import State, state_of
from faults.processes import below, kill, members, outlive, title

from nas.ledger import LedgerView, read, read_config
from nas.ledger.view import decided
from nas.progress.views import facts

IMPORTS = "import nas.cli.commands, nas.cli.run_commands"  # what the command itself imports
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
SPEAK_SECONDS = 10.0  # in which its line must be there, once it has ended
_TOLD = re.compile(r"\s\d+/\d+\s\s(\d+\.\d+)\s\s.*?\s\s(val .*|failed: .*)$")


def killed(plan: KillPlan, share: float = 1.0, seed: int = 0) -> list[Figure]:
    """Go on until enough searches were killed; what came of it.

    share: how much of the whole test. Few kills are of a shorter search.
    """
    kills = max(3, round(plan.kills * share))
    short = kills <= plan.per_run
    children, generations, epochs = SHORT if short else plan.size
    if short:  # apart, so that it doesn't replace what an interrupted long test has done
        plan = replace(plan, folder=plan.folder.with_name(f"{plan.folder.name}_short"))
    size = ["--children", children, "--generations", generations, "--epochs", epochs, "--final-share", "0.1"]
    size += ["--seed", str(seed)]
    size += [] if plan.executor == "local" else ["--executor", plan.executor]
    state = state_of(plan, size)
    expected = whole(plan, state)
    while state.total < kills or state.in_run:
        kill_repeatedly(plan, state, expected, min(plan.per_run, state.in_run + kills - state.total))
    plan.state.unlink()  # the next call begins anew
    print(f"undisturbed: {len(expected.complete)} trials, digest {expected.digest[:16]}")
    resume = [seconds - state.imports for seconds in state.resume]
    ray = plan.executor == "ray"
    beyond = "resume beyond imports and Ray's start" if ray else "resume beyond imports"
    return [
        Figure("kills", state.total, "", f">= {kills}"),
        *(Figure(f"of {name}", count) for name, count in sorted(state.kills.items())),
        Figure("results acknowledged on standard output", state.said),
        Figure("told results lost", state.lost, "trials", "<= 0"),
        Figure("processes that outlived a killed driver", state.orphans, "", "<= 0"),
        *([Figure("drivers that did not notice a dead raylet", state.unnoticed, "", "<= 0")] if ray else []),
        Figure("resumptions timed", len(resume)),
        *([Figure(f"{beyond}, median", median(resume), "s", "<= 2")] if resume else []),
        *([Figure(f"{beyond}, most", max(resume), "s", "<= 2")] if resume else []),
        Figure("searches in which no worker was killed", state.same + state.other),
        Figure("of them with another digest than the undisturbed", state.other, "", "<= 0"),
        Figure("searches with killed workers that ended", state.without_worker),
        Figure("wall time of all calls", state.seconds, "s"),
    ]


def nas(*words: str) -> list[str]:
    """A nas command line."""
    return [sys.executable, "-m", "nas", *words]


def whole(plan: KillPlan, state: State) -> LedgerView:
    """The undisturbed search, made if need be; and how long a driver takes to get ready for it."""
    begin = time.perf_counter()
    if not ((plan.whole / "ledger.db").exists() and read(plan.whole).final):
        shutil.rmtree(plan.whole, ignore_errors=True)
        command = [*nas("search", "digits"), *state.size, "--run", str(plan.whole), "--quiet"]
        process = subprocess.Popen(command)
        wait_for_work(process, plan.whole, plan.executor)
        ready = time.time()
        if process.wait():
            raise SystemExit(f"the undisturbed search ended with code {process.returncode}")
        if plan.executor == "ray":  # local workers are forked from what has imported everything
            state.warm = max(0.0, first_work(read(plan.whole)) - ready)
    if not state.imports:
        command = [sys.executable, "-c", STARTS[plan.executor]]
        state.imports = median(seconds_of(command, plan.executor == "ray") for _ in range(3))
    state.seconds += time.perf_counter() - begin
    state.save(plan)
    return read(plan.whole)


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


def kill_repeatedly(plan: KillPlan, state: State, expected: LedgerView, kills: int) -> None:
    """Kill the present search until it has been killed `kills` times, and let it end.

    Kills fall anywhere from the driver's readiness to a few shares of the work beyond a worker's start-up.
    """
    span = state.warm + length(expected) * min(1.0, 2 / max(1, kills))
    while state.in_run < kills:
        begin = time.perf_counter()
        draw = random.Random(f"{state.size} {state.total}" + f" {state.missed}" * (state.missed > 0))
        known = held(plan)
        process = start(plan, state.size)
        ready = wait_for_work(process, plan.torn, plan.executor)
        if ready is not None and known:
            state.resume.append(ready)
        time.sleep(draw.uniform(0, span))
        if process.poll() is not None:  # the search has ended: there is nothing to kill
            state.missed += 1  # else the same instant would be drawn for the next search, again and again
            break
        # Without its seed network, trained by the first worker, there is no search to kill.
        parts = plan.parts if known and not state.digest_counts else ()
        target = draw.choice((*plan.targets, *parts))
        kill_target(plan, state, process, target, draw)
        compare(plan, state, known)
        state.kills[target] = state.kills.get(target, 0) + 1
        state.in_run += 1
        state.seconds += time.perf_counter() - begin
        state.save(plan)
        told = len(read(plan.torn).complete) if plan.going_on else 0
        print(f"  kill {state.total}, of {target}: {told} trials told", flush=True)
    end(plan, state, expected)


def length(expected: LedgerView) -> float:
    """Seconds of the undisturbed search, without a worker's start-up."""
    ended = [record.finished for record in expected.trials if record.finished]
    return max(ended) - first_work(expected)


def first_work(expected: LedgerView) -> float:
    """When the undisturbed search's first worker was at work, in seconds since the epoch."""
    first = expected.trials[0]
    assert first.result is not None
    return first.result.seconds["busy_from"]


def start(plan: KillPlan, size: list[str]) -> subprocess.Popen[bytes]:
    """The search, or its resumption where there is one to resume; what it says goes to the log outside."""
    if plan.going_on:
        command = nas("resume", str(plan.torn))
    else:
        shutil.rmtree(plan.torn, ignore_errors=True)
        plan.log.unlink(missing_ok=True)
        command = [*nas("search", "digits"), *size, "--run", str(plan.torn)]
    with plan.log.open("ab") as log, plan.complaints.open("wb") as complaints:
        return subprocess.Popen(command, start_new_session=True, stdout=log, stderr=complaints)


def kill_target(
    plan: KillPlan, state: State, process: subprocess.Popen[bytes], target: str, draw: random.Random
) -> None:
    """Kill `target`, then the driver, and count the processes that didn't leave by themselves when it was dead.

    A driver whose raylet is the target has to end by itself.
    """
    crowd = below([process.pid])  # what is below a process that is killed can't be found any more
    if target not in ("all", "driver"):
        victims = members(plan.executor, process.pid, target)
        if victims:
            kill(draw.choice(victims))
        if target == "raylet":
            state.unnoticed += not noticed(plan, process)
        else:
            time.sleep(draw.uniform(0.0, 1.0))  # the driver goes on; then it dies as well
            crowd |= below([process.pid])
    kill(process.pid)
    if target == "all":
        for pid in crowd:
            kill(pid)
    process.wait()
    report_complaints(plan)
    left = outlive(crowd, plan.leave)
    for pid in left:
        print(f"  OUTLIVED its driver: {pid} {title(pid)}", flush=True)
        kill(pid)
    state.orphans += len(left)


def noticed(plan: KillPlan, process: subprocess.Popen[bytes]) -> bool:
    """Whether a driver whose raylet is dead ends in time, with code 1 and one line that says how to go on.

    One that had all its results by then may end as if nothing had happened.
    """
    try:
        code = process.wait(NOTICE_SECONDS)
    except subprocess.TimeoutExpired:
        print(
            f"  NOT NOTICED: the driver still runs {NOTICE_SECONDS:.0f} s after its raylet's death",
            flush=True,
        )
        return False
    lines = spoken(plan) if code else []
    if code == 1 and len(lines) == 1 and "nas resume" in lines[0]:
        return True
    if code == 0 and read(plan.torn).final is not None:
        return True
    print(f"  NOT NOTICED: the driver ended with code {code} after its raylet's death", flush=True)
    return False


def spoken(plan: KillPlan) -> list[str]:
    """What was said on standard error; a process that outlives the driver may say it some seconds later."""
    until = time.monotonic() + SPEAK_SECONDS
    while not (said := plan.complaints.read_text(encoding="utf-8", errors="replace")):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return said.splitlines()


def report_complaints(plan: KillPlan) -> None:
    """Pass on what the last driver has said on standard error."""
    print(plan.complaints.read_text(encoding="utf-8", errors="replace"), end="", file=sys.stderr, flush=True)


def compare(plan: KillPlan, state: State, known: dict[str, Any]) -> None:
    """Count what was held or acknowledged before and isn't there."""
    if not plan.going_on:
        state.lost += len(known)
        return
    view = read(plan.torn)
    now = {record.key: record for record in view.trials if record.state != "running"}
    gone = {key for key, value in known.items() if key not in now or decided(now[key]) != value}
    said = acknowledged(plan)
    select = selected(plan)
    gone |= {
        key
        for key, text in said.items()
        if key not in now or _scores(facts(now[key], select)) != _scores(text)
    }
    state.lost += len(gone)
    state.said += len(said.keys() - known.keys())
    if gone:
        print(f"  LOST: {sorted(gone)}", flush=True)


def selected(plan: KillPlan) -> str:
    """The criterion by which the search selects, which the lines of a search name."""
    return str(read_config(plan.torn).config["config"]["select"])


def acknowledged(plan: KillPlan) -> dict[str, str]:
    """What the drivers have said of each trial, in whole lines."""
    if not plan.log.exists():
        return {}
    lines = plan.log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return {match[1]: match[2] for line in lines if (match := _TOLD.search(line))}


def _scores(text: str) -> str:
    """What was said, without the time it took."""
    return text.partition(" params")[0]


def held(plan: KillPlan) -> dict[str, Any]:
    """What the ledger of the search to be killed holds as ended."""
    if not plan.going_on:
        return {}
    return {record.key: decided(record) for record in read(plan.torn).trials if record.state != "running"}


def end(plan: KillPlan, state: State, expected: LedgerView) -> None:
    """Let the present search end, and forget it."""
    begin = time.perf_counter()
    known = held(plan)
    code = start(plan, state.size).wait()
    report_complaints(plan)
    compare(plan, state, known)
    ended = code == 0 and read(plan.torn).final is not None
    if state.digest_counts:
        same = ended and read(plan.torn).digest == expected.digest
        state.same, state.other = state.same + same, state.other + (not same)
    else:  # the search may have ended without a seed network or a competitor
        state.without_worker += ended
    shutil.rmtree(plan.torn)
    state.run, state.in_run = state.run + 1, 0
    state.seconds += time.perf_counter() - begin
    state.save(plan)


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
