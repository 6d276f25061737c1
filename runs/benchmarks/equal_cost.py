"""The engine against all other ways to spend one training cost.

Every arm gets the same images, validation split (drawn by the seed), augmentation, loop and schedule, and the same
budget of multiply-adds, to which everything that it does is charged: 3 x macs x images for training, macs x images for
an evaluation; children that lost, stopped trials, ranking. Not charged: reading the test split, once at the end, and
what only draws a curve. Budgets are counted in epochs of the seed network of width 8. Of arms with variants each
variant gets all of the budget.

An arm is a process of its own with one thread. Its result is a line of the state file; what is there is not run again.
Settings were chosen on seeds from 100 up, by validation accuracy.

    python runs/benchmarks/equal_cost.py --data-root DIR [--data digits,cifar10] [--budgets small] [--seeds 0-4]
        [--arms engine,seed] [--workers 2] [--quick]
    python runs/benchmarks/equal_cost.py --table | --plot
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# An arm's large tensors come and go: huge pages save a third of the time of a step. Read before torch allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch
from _common import OUT, environment, finish, guarded
from _equal_cost.arms import ARMS, BY_NAME, ENGINE, Task
from _equal_cost.outcome import Outcome
from _equal_cost.plot import curves
from _equal_cost.problem import EPOCHS, QUICK, Problem, make_problem
from _equal_cost.table import figures, table, variants
from _state import Record, append, read

import morphs
from nas.base.errors import UserError
from nas.train.evaluate import Scores, evaluate

HERE = Path(__file__).resolve().parent
QUICK_ARMS = ["engine", "seed", "sizes", "afresh", "hand", "optuna"]
FOLDER = OUT / "equal_cost"  # what arms keep on disk while they work


@dataclass(frozen=True)
class Key:
    """One run: what a line of the state file is about."""

    data: str
    budget: str
    arm: str
    variant: str
    seed: int

    @property
    def text(self) -> str:
        """For people, and for the name of a folder."""
        return "_".join(
            str(part) for part in (self.data, self.budget, self.arm, self.variant, self.seed) if part != ""
        )


def main() -> None:
    """Run what is missing, print the tables, and draw the curves if asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names, budgets = list(EPOCHS), list(EPOCHS["digits"])
    add = parser.add_argument
    add("--data", type=_choices(names), default=names, metavar="NAMES", help=", ".join(names))
    add("--budgets", type=_choices(budgets), default=budgets, metavar="NAMES", help=", ".join(budgets))
    add("--seeds", type=_seeds, default=[0, 1, 2, 3, 4], metavar="N-M", help="0-4, or 0,2,3")
    usual = [arm.name for arm in ARMS if not arm.ablation]
    parts = ", ".join(arm.name for arm in ARMS if arm.ablation)
    shown = f"{', '.join(usual)}; and the engine without one of its parts: {parts}"
    add("--arms", type=_choices(list(BY_NAME)), metavar="NAMES", help=shown)
    add("--workers", type=int, default=os.cpu_count() or 1, help="arms at once")
    add("--images", type=int, default=12_000, help="training images used of a published set")
    add("--shrink", type=int, default=2, help="average so many pixels into one, both ways; 1 at full size")
    add("--data-root", type=Path, default=None, help="torchvision's folder of data sets")
    add("--state", type=Path, default=HERE / "equal_cost.jsonl", help="one line of JSON for each run")
    add("--quick", action="store_true", help="a minute: the same code on digits, nothing learned")
    add("--table", action="store_true", help="only print the tables")
    add("--plot", action="store_true", help="only draw the curves, beside the state file")
    add("--one", type=json.loads, help=argparse.SUPPRESS)  # the parent's order to a process of its own
    given = parser.parse_args()
    given.arms = given.arms or (QUICK_ARMS if given.quick else usual)
    if given.one:
        print(json.dumps(one_run(Key(**given.one), given)))
        return
    if given.quick:
        given.data, given.budgets, given.seeds = ["digits"], ["small"], given.seeds[:1]
        given.state = OUT / "equal_cost_quick.jsonl"
        if not given.table and not given.plot:
            given.state.unlink(missing_ok=True)
    wanted = keys(given)
    lost = [] if given.table or given.plot else run(wanted, given)
    groups = grouped(read(given.state), wanted, given)
    if given.plot:
        draw(groups, given.state)
        return
    print("\n| arm | what |\n|---|---|")
    print("\n".join(f"| {arm.name} | {arm.what} |" for arm in ARMS if arm.name in given.arms))
    for (data, budget), group in groups.items():
        print(f"\n{data}, {budget} budget\n\n{table(group)}\n\n{variants(group)}")
    if lost:
        raise UserError(
            f"{len(lost)} of {len(wanted)} runs failed, {lost[0].text} for one; run again for these"
        )
    if groups:
        finish(__file__, figures(groups))


def keys(given: Any) -> list[Key]:
    """All runs that are asked for; seed by seed, so that a table can be read early."""
    return [
        Key(data, budget, arm.name, variant, seed)
        for seed in given.seeds for data in given.data for budget in given.budgets
        for arm in ARMS if arm.name in given.arms
        for variant in (arm.variants[:1] if given.quick else arm.variants)
    ]  # fmt: skip


def run(wanted: Sequence[Key], given: Any) -> list[Key]:
    """Do the runs that the state file lacks, the engine's before those that need them; return those that failed."""
    done = {key_of(row) for row in of_images(read(given.state), given)}
    lacking = {name: reason for name in given.arms if (reason := BY_NAME[name].lacks())}
    for name, reason in lacking.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    queue = [key for key in wanted if key not in done and key.arm not in lacking]
    total, lost = len(queue), list[Key]()
    running: dict[Future[Record], Key] = {}
    with ThreadPoolExecutor(given.workers) as pool:
        while queue or running:
            for key in [key for key in queue if _ready(key, done)][: given.workers - len(running)]:
                queue.remove(key)
                running[pool.submit(in_own_process, key, given)] = key
            if not running:  # what is left waits for an engine's run that is not asked for, or failed
                lost += queue
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                number = total - len(queue) - len(running)
                try:
                    record = future.result()
                except UserError as error:
                    print(f"[{number}/{total}] {key.text} failed: {error}", file=sys.stderr, flush=True)
                    lost.append(key)
                    continue
                append(given.state, record)
                done.add(key)
                print(
                    f"[{number}/{total}] {key.text}  validation {record['val_accuracy']:.4f}  "
                    f"test {record['test_accuracy']:.4f}  {record['seconds']:.0f} s",
                    flush=True,
                )
    return lost


def _ready(key: Key, done: set[Key]) -> bool:
    return not BY_NAME[key.arm].after or Key(key.data, key.budget, ENGINE, "", key.seed) in done


def in_own_process(key: Key, given: Any) -> Record:
    """The record of a run. Raises UserError if its process fails."""
    options = ["--one", json.dumps(vars(key)), "--images", str(given.images)]
    options += ["--shrink", str(given.shrink), "--state", str(given.state)]
    options += ["--data-root", str(given.data_root)] if given.data_root else []
    options += ["--quick"] if given.quick else []
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        raise UserError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def one_run(key: Key, given: Any) -> Record:
    """Do one run in this process; return its line."""
    torch.set_num_threads(1)
    arm = BY_NAME[key.arm]
    problem = make_problem(
        key.data, _epochs(key, given), key.seed, given.images, given.data_root, given.shrink
    )
    engine = Key(key.data, key.budget, ENGINE, "", key.seed)
    rows = of_images(read(given.state), given) if arm.after else []
    found = next((row for row in rows if key_of(row) == engine), None)
    folder = FOLDER / f"{key.text}_{os.getpid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        outcome = arm.run(Task(problem, key.variant, folder, found))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return record_of(key, outcome, problem, given)


def record_of(key: Key, outcome: Outcome, problem: Problem, given: Any) -> Record:
    """The line of a run, for which the test split is read if the arm has not done so."""
    test = outcome.test or _tested(outcome, problem)
    cost = None if outcome.graph is None else morphs.cost(outcome.graph)
    graph = outcome.graph if key.arm == ENGINE else None  # which another arm trains afresh
    return {
        **vars(key), "images": _images(key.data, given), "shrink": given.shrink, "epochs": _epochs(key, given),
        "val_accuracy": outcome.val.accuracy, "val_loss": outcome.val.loss,
        "test_accuracy": test.accuracy, "test_loss": test.loss,
        "budget_cost": problem.budget, "cost": outcome.spent, "by_purpose": dict(outcome.cost),
        "seconds": round(outcome.seconds, 2), "params": cost and cost.params, "macs": cost and cost.macs,
        "lr": problem.recipe.lr, "graph": graph and graph.text(),
        "curve": [(round(spent), round(seconds, 2), round(y, 4)) for spent, seconds, y in outcome.curve],
        "finished": time.strftime("%Y-%m-%d %H:%M"), "environment": environment(),
    }  # fmt: skip


def _tested(outcome: Outcome, problem: Problem) -> Scores:
    assert outcome.module is not None
    return evaluate(outcome.module, problem.test, problem.data)


def _epochs(key: Key, given: Any) -> float:
    return QUICK if given.quick else EPOCHS[key.data][key.budget]


def _images(data: str, given: Any) -> int | None:
    return None if data == "digits" else given.images


def key_of(row: Record) -> Key:
    """The run that a line is about."""
    return Key(row["data"], row["budget"], row["arm"], row["variant"], row["seed"])


def of_images(rows: Sequence[Record], given: Any) -> list[Record]:
    """The lines with the present number of images and length of budgets."""
    return [
        row for row in rows
        if (row["images"], row["shrink"]) == (_images(row["data"], given), given.shrink)
        and row["epochs"] == _epochs(key_of(row), given)
    ]  # fmt: skip


def grouped(rows: Sequence[Record], wanted: Sequence[Key], given: Any) -> dict[tuple[str, str], list[Record]]:
    """The wanted runs' lines by data set and budget, in the order of the arms."""
    places = {key: place for place, key in enumerate(wanted)}
    known = sorted(
        (row for row in of_images(rows, given) if key_of(row) in places), key=lambda row: places[key_of(row)]
    )
    groups: dict[tuple[str, str], list[Record]] = {}
    for data in given.data:
        for budget in given.budgets:
            if found := [row for row in known if (row["data"], row["budget"]) == (data, budget)]:
                groups[data, budget] = found
    return groups


def draw(groups: Mapping[tuple[str, str], Sequence[Record]], state: Path) -> None:
    """Write the curves of each data set beside the state file."""
    for data in dict.fromkeys(data for data, _ in groups):
        path = state.with_name(f"{state.stem}_{data}.svg")
        path.write_text(
            curves(data, {budget: rows for (name, budget), rows in groups.items() if name == data})
        )
        print(path)


def _choices(known: Sequence[str]) -> Any:
    def parsed(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return parsed


def _seeds(text: str) -> list[int]:
    def span(part: str) -> Iterator[int]:
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)

    return [seed for part in text.split(",") for seed in span(part)]


if __name__ == "__main__":
    guarded(main)
