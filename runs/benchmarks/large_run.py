"""How long the commands of a run with many trials take, beyond their imports.

A run is made through the real ledger: real moves on the space's seed network, fresh weights, invented scores, each
trial's checkpoint on disk. Then `nas status` and `nas report` are timed, the opening of the ledger by a driver
(`nas resume` up to its first decision), and a generation proposed by evolution with the predictor. Each command is also
run on a run of one generation, with the same imports; its time is subtracted. Times are those of one processor, so that
other programs on the machine count for little.

    python runs/benchmarks/large_run.py [--trials N] [--quick]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _common import OUT, figure, finish

import morphs
from nas.ledger import Job, Ledger, LedgerView, Result, TrialRecord
from nas.ledger.notes import Note
from nas.policies.evolution import Evolution
from nas.policies.graph_tokens import graph_tokens
from nas.policies.predictor import Predictor
from nas.policies.sampling import SpaceMoves, Uniform, random_move
from nas.registry.configure import make_config
from search_spaces import SPACES

CHILDREN, MOVES = 3, 3
LIMITS = morphs.Limits(macs=400_000)
START = 1_700_000_000.0


def main() -> None:
    """Make the runs that are missing, time the commands on them, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="200 trials, each time measured once")
    arguments = parser.parse_args()
    trials, repeats = (200, 1) if arguments.quick else (arguments.trials, 5)
    large, small = (made(count) for count in (trials, CHILDREN + 2))
    targets = {"status": "<= 0.5", "report": "<= 5"} if not arguments.quick else {}
    figures = [
        figure(f"nas {name}, {trials} trials", beyond(name, large, small, repeats), "s", targets.get(name))
        for name in ("status", "report")
    ]
    opened = statistics.median(opening(large) for _ in range(repeats))
    spent = [proposing(large, at) for at in range(repeats)]
    goal = None if arguments.quick else "<= 3"
    figures.append(figure("restart: opening the ledger and the first decision", opened + spent[0], "s", goal))
    goal = None if arguments.quick else "<= 1"
    figures.append(
        figure("predictor, a generation later on", statistics.median(spent[1:] or spent), "s", goal)
    )
    finish(__file__, figures)


def made(trials: int) -> Path:
    """The folder of a run with that many trials; it is made if missing."""
    run = OUT / f"large-{trials}"
    if (run / "report.html").exists():
        return run
    shutil.rmtree(run, ignore_errors=True)
    began = time.monotonic()
    write_run(run, trials)
    subprocess.run([sys.executable, "-m", "nas", "report", str(run)], check=True, stdout=subprocess.DEVNULL)
    print(f"{run.name}: made in {time.monotonic() - began:.0f} s", flush=True)
    return run


def write_run(run: Path, trials: int) -> None:
    """A run of evolution, through the real ledger and store, with random parents."""
    config = make_config("digits", {"generations": trials, "policy": "evolution"})
    data = {"name": "digits", "digest": "0" * 64, "images": {"train": 1078, "validation": 269}}
    facts = {"config": config.model_dump(mode="json"), "command": "nas search digits", "data": data}
    space, draw = SPACES["digits"]((1, 8, 8), 10), random.Random(0)
    near = SpaceMoves(space, LIMITS)
    with Ledger.create(run, facts) as ledger:
        jobs = [Job("seed", 0, 0, None, "", 0, 100, space.seed.to_json())]
        for number in range(1, trials + 1):
            job, at = jobs[-1], START + 10 * number
            told = ledger.ask(job)
            network = morphs.init(morphs.graph_from_json(job.graph), number)
            ledger.tell(told, result_of(ledger.store.put(network), network, draw.gauss(0.8, 0.05), at))
            if number < trials:
                place = 1 + (number - 1) // (CHILDREN + 1), (number - 1) % (CHILDREN + 1)
                jobs.append(child_of(draw.choice(jobs), place, near, draw))
        best = max(ledger.view().complete, key=accuracy)
        ledger.note(Note.INCUMBENT, best.key)
        ledger.note(Note.WALL, 10.0 * trials)


def child_of(parent: Job, place: tuple[int, int], near: SpaceMoves, draw: random.Random) -> Job:
    """A child by up to MOVES legal moves; the unchanged parent in slot 0."""
    graph, chain = parent.graph, list[str]()
    for _ in range(MOVES if place[1] else 0):
        if (step := random_move(near, graph, draw)) is not None:
            chain.append(step[0])
            graph = step[1]
    kind = "child" if chain else "parent"
    return Job(kind, *place, parent.key, "; ".join(chain), draw.randrange(10**9), 100, graph)


def result_of(weights: str, network: morphs.Network, score: float, at: float) -> Result:
    """The result of a trial that was trained from `at` for nine seconds."""
    spent = morphs.cost(network.graph)
    seconds = {"train": 8.0, "evaluate": 0.5, "morph": 0.2, "store": 0.1, "busy_from": at, "busy_to": at + 9}
    scores = {"val_accuracy": score, "val_loss": 1 - score, "train_loss": 0.5}
    return Result(
        network.graph.fingerprint, weights, scores, spent.params, spent.macs, 1e-8, 1e-8, seconds=seconds
    )


def accuracy(record: TrialRecord) -> float:
    """The validation accuracy of a complete trial."""
    assert record.result is not None
    return record.result.scores["val_accuracy"]


def beyond(name: str, large: Path, small: Path, repeats: int) -> float:
    """Median seconds of `nas NAME` on the large run beyond those on the small one, measured in turns."""
    spent: dict[Path, list[float]] = {large: [], small: []}
    for _ in range(repeats):
        for run, known in spent.items():
            known.append(processor_seconds([sys.executable, "-m", "nas", name, str(run)]))
    medians = {run.name: statistics.median(known) for run, known in spent.items()}
    print(f"nas {name}:", ", ".join(f"{run} {seconds:.2f} s" for run, seconds in medians.items()), flush=True)
    return medians[large.name] - medians[small.name]


def processor_seconds(command: list[str]) -> float:
    """Seconds of a processor that a command takes."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    now = os.times()
    return now.children_user + now.children_system - before.children_user - before.children_system


def opening(run: Path) -> float:
    """Seconds of a processor in which a driver opens the ledger."""
    began = time.process_time()
    Ledger.open(run).close()
    return time.process_time() - began


def proposing(run: Path, seed: int) -> float:
    """Seconds of a processor in which evolution with the predictor proposes a generation, trial by trial."""
    space = SPACES["digits"]((1, 8, 8), 10)
    base = Uniform(SpaceMoves(space, LIMITS))
    policy = Evolution(Predictor(base, graph_tokens), CHILDREN + 1, MOVES)
    with Ledger.open(run) as ledger:
        view = ledger.view()
    last = len(view.trials) - seed * (CHILDREN + 1)
    began = time.process_time()
    for asked in range(CHILDREN + 1):
        policy.propose(LedgerView(view.trials[: last + asked - CHILDREN - 1], view.notes), seed)
    return time.process_time() - began


if __name__ == "__main__":
    main()
