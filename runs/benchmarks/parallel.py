"""What parallel children cost and gain: the engine's overhead, and two workers against one.

Searches on digits with four competitors in each generation (three children and their parent) of about five seconds
each, one thread each, by one worker and by two. Between them, in the same run, plain processes train the same networks
again for as many steps, without an engine: one all of them, and two side by side one half each, which is the gain that
this machine has to give to two programs that do this work. Two workers are judged by the share of it which they reach.

    python runs/benchmarks/parallel.py [--executor ray|local] [--repeats 3] [--epochs E] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _common import figure, finish

from nas.config.run_config import RunConfig
from nas.execute.task import networks
from nas.execute.worker import release_memory, site_of
from nas.ledger import LedgerView, Result, Store, read, read_config
from nas.registry.configure import make_config
from nas.run.budget import seconds_per_step
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import load_data, search, stored_config
from nas.run.plan import make_plan, seed_job

COMPETITORS = 4  # of a generation: children, and their parent


def main() -> None:
    """Run everything in turn and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--executor", choices=("ray", "local"), default="ray")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=5.5, help="of each child, as a short trial estimates it"
    )
    parser.add_argument("--epochs", type=float, help="of each child, rather than seconds")
    parser.add_argument("--quick", action="store_true", help="children of half a second, one repeat")
    parser.add_argument("--perform", nargs="+", metavar=("RUN", "KEY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.perform:
        run, *keys = arguments.perform
        perform_alone(Path(run), keys)
        return
    seconds = 0.5 if arguments.quick else arguments.seconds
    generations, repeats = (2, 1) if arguments.quick else (3, arguments.repeats)
    config = sized(seconds, {"executor": arguments.executor, "generations": generations})
    if arguments.epochs:
        config = config.model_copy(update={"epochs": arguments.epochs})
    took: dict[str, list[float]] = {"plain 1": [], "plain 2": [], "workers 1": [], "workers 2": []}
    ends: list[Outcome] = []
    folder = Path(tempfile.mkdtemp(prefix="nas-parallel-"))
    try:
        for repeat in range(repeats):
            # In turns, since what the machine gives changes by the minute.
            runs = [folder / f"{repeat}-{workers}" for workers in (1, 2)]
            alone = search(config.model_copy(update={"workers": 1}), runs[0], Silent(), "")
            took["plain 2"].append(processes(runs[0], halves(alone.view)))
            paired = search(config.model_copy(update={"workers": 2}), runs[1], Silent(), "")
            took["plain 1"].append(processes(runs[0], [[*competitors(alone.view)]]))
            took["workers 1"].append(search_seconds(alone.view))
            took["workers 2"].append(search_seconds(paired.view))
            ends += [alone, paired]
            said = (f"{who} {seconds[-1]:.1f} s" for who, seconds in took.items())
            print(f"repeat {repeat}: {', '.join(said)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    pairs = ends[1::2]
    children = [seconds_of(outcome.view) for outcome in ends]
    middle = {who: median(seconds) for who, seconds in took.items()}
    plain = middle["plain 1"] / middle["plain 2"]
    ours = middle["workers 1"] / middle["workers 2"]
    shares = [w1 / w2 * p2 / p1 for p1, p2, w1, w2 in zip(*took.values(), strict=True)]
    judged = not arguments.quick
    finish(
        __file__,
        [
            figure("a child, median", median(children), "s", ">= 5" if judged else None),
            *(figure(f"the same trainings, {who}, median", value, "s", None) for who, value in middle.items()),
            figure("gain of two processes", plain, "", None),
            figure("gain of two workers", ours, "", None),
            figure("share of the gain", ours / plain, "", ">= 0.9" if judged else None),
            figure("share of the gain, worst of a repeat", min(shares), "", None),
            figure(
                "overhead between first and last child, two workers, worst",
                max(gaps(outcome.view) for outcome in pairs), "", "<= 0.05" if judged else None,
            ),
            figure(
                "overhead of the whole run, start and end of workers included, worst",
                max(outcome.overhead for outcome in pairs), "", None,
            ),
            figure("share of two workers' time not spent on children", median(idle(o.view) for o in pairs), "", None),
            figure("different digests", len({outcome.view.digest for outcome in ends}), "", "<= 1"),
        ],
    )  # fmt: skip


def sized(
    seconds: float, settings: Mapping[str, Any], space: str = "digits", least: float = 1.0
) -> RunConfig:
    """A configuration whose children take about `seconds` each on this machine, but at least so many epochs."""
    settings = {
        "children": COMPETITORS - 1,
        **settings,
        "threads": 1,
        "final_share": 0.02,
        "moves_per_child": 1,
    }
    config = make_config(space, {**settings, "epochs": 1})
    data = load_data(config)
    plan = make_plan(config, data)
    step = seconds_per_step(plan.space.seed, data, config.train, config.device, 1, steps=100)
    return make_config(space, {**settings, "epochs": max(least, seconds / (step * seed_job(plan).steps))})


def perform_alone(run: Path, keys: Sequence[str]) -> None:
    """A plain process: gets ready, waits for a line, trains the competitors of `run` with those keys, says so."""
    config, view = stored_config(run, read_config(run).config), read(run)
    data = load_data(config)
    site = site_of(config, Store(run / "checkpoints"))
    jobs = [view.trial(key).job for key in keys]
    gc.freeze()
    print("ready", flush=True)
    sys.stdin.readline()
    for job in jobs:
        networks(job, site, data)
        release_memory()  # as a worker does: a long process is slower with what former networks leave
    print("done", flush=True)


def processes(run: Path, shares: Sequence[Sequence[str]]) -> float:
    """Wall seconds in which plain processes, started at once, have trained the competitors of `run`, a share each."""
    command = [sys.executable, __file__, "--perform", str(run)]
    started = [
        subprocess.Popen([*command, *share], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for share in shares
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    begin = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "done"
    took = time.perf_counter() - begin
    for process in started:
        process.communicate()
    return took


def halves(view: LedgerView) -> list[list[str]]:
    """The competitors in two shares that trained about as long."""
    took = {key: result.seconds["train"] for key, result in competitors(view).items()}
    shares: list[list[str]] = [[], []]
    for key in sorted(took, key=lambda key: -took[key]):
        min(shares, key=lambda share: sum(took[key] for key in share)).append(key)
    return shares


def search_seconds(view: LedgerView) -> float:
    """Wall seconds from the first competitor's begin to the last one's end."""
    spans = busy_spans(view)
    return max(end for _, end in spans) - spans[0][0]


def competitors(view: LedgerView) -> dict[str, Result]:
    """What came of each child and each unchanged parent, by its place in the search."""
    return {
        record.key: record.result
        for record in view.complete
        if record.result is not None and record.job.kind in ("child", "parent")
    }


def busy_spans(view: LedgerView) -> list[tuple[float, float]]:
    """When a worker took each competitor up and when it was done with it, in the order of the former."""
    return sorted((r.seconds["busy_from"], r.seconds["busy_to"]) for r in competitors(view).values())


def seconds_of(view: LedgerView) -> float:
    """Seconds of training and evaluation, the median of the competitors."""
    return median(
        result.seconds["train"] + result.seconds["evaluate"] for result in competitors(view).values()
    )


def gaps(view: LedgerView) -> float:
    """The share of the time between the first competitor's begin and the last one's end in which a worker did nothing
    while the other had nothing to do either: what starting, storing, telling and deciding took.
    """
    spans = busy_spans(view)
    at, idle = spans[0][0], 0.0
    for begin, end in spans:
        idle += max(0.0, begin - at)
        at = max(at, end)
    return idle / (at - spans[0][0])


def idle(view: LedgerView) -> float:
    """The share of two workers' time, from the first competitor's begin to the last one's end, in which they trained
    nothing: with what competitors of unequal length leave of a generation's end.
    """
    spans = busy_spans(view)
    return 1 - sum(end - begin for begin, end in spans) / (2 * search_seconds(view))


if __name__ == "__main__":
    main()
