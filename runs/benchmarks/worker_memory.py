"""Does a worker's memory stay flat over many trials?

One process performs trials as a worker does, each of another architecture: children of random moves on the seed network
of the space `digits`, a few steps of training each. The moves are drawn in another process, as a driver does. Resident
memory is noted after every trial. From trial 100 on it must stay within 10 %: the figure is the mean of the last fifth
over the mean of trials 100 to 150. The quick way has fewer trials, from trial 20 on, in about half a minute.

    python runs/benchmarks/worker_memory.py [--trials N] [--quick]
"""

from __future__ import annotations

import argparse
import random
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

from _common import figure, finish

import morphs
from nas.data import load_search_data, load_test_split
from nas.execute.task import TaskContext, attempt
from nas.execute.worker import bounded_caches, release_memory
from nas.ledger import Job, Store
from nas.ledger.types import Training
from nas.policies.sampling import SpaceMoves, random_move
from nas.train import TrainConfig
from search_spaces import SPACES

STEPS, MOVES = 3, 3


def main() -> None:
    """Perform the trials, print the memory and its growth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="60 trials, the first 20 as the start")
    arguments = parser.parse_args()
    trials, start, window = (60, 20, 15) if arguments.quick else (arguments.trials, 100, 50)
    with ProcessPoolExecutor(1, get_context("spawn")) as driver:
        jobs = driver.submit(drawn, trials).result()
    bounded_caches()
    held = resident_of(jobs)
    before, after = fmean(held[start : start + window]), fmean(held[-max(window // 2, trials // 5) :])
    finish(
        __file__,
        [
            figure(f"resident memory, trials {start} to {start + window}", before, "MB", None),
            figure(f"resident memory, the last of {trials}", after, "MB", None),
            figure("growth", after / before, "", "<= 1.1"),
        ],
    )


def drawn(trials: int) -> list[tuple[int, str, str]]:
    """For each trial the number of its parent, its moves and its graph; the first is the seed network's."""
    space, draw = SPACES["digits"]((1, 8, 8), 10), random.Random(0)
    near = SpaceMoves(space, morphs.Limits(macs=3_000_000))
    found = [(0, "", space.seed.to_json())]
    while len(found) < trials:
        parent = draw.randrange(len(found))
        child, chain = found[parent][2], list[str]()
        for _ in range(MOVES):
            if (step := random_move(near, child, draw)) is not None:
                chain.append(step[0])
                child = step[1]
        found.append((parent, "; ".join(chain), child))
    return found


def resident_of(jobs: list[tuple[int, str, str]]) -> list[float]:
    """Megabytes of resident memory after each trial."""
    data = load_search_data("digits", None, 0)
    held: list[float] = []
    weights: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "checkpoints")
        site = TaskContext(store, TrainConfig(lr=0.01), "cpu", 1, lambda: load_test_split("digits", None, 0))
        for number, (parent, moves, graph) in enumerate(jobs):
            training = Training(weights=weights[parent] if weights else None)
            job = Job("child", 1, number, "0.0", moves, number, STEPS, graph, training)
            done = attempt(number, job, site, data, lambda *_: None)
            if done.result is None:
                raise SystemExit(f"trial {number} failed: {done.reason}")
            weights.append(done.result.weights)
            release_memory()
            held.append(resident())
            if number % max(1, len(jobs) // 10) == 0:
                print(f"trial {number}: {held[-1]:.0f} MB", flush=True)
    return held


def resident() -> float:
    """Megabytes of resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000


if __name__ == "__main__":
    main()
