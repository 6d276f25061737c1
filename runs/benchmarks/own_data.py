"""Does `nas search auto` serve the person with their own data, who sets nothing but a budget?

Nine small data sets as folders, tables and arrays; `nas search auto` with a budget of wall time, beside the commonest
answer (or the mean), a linear model, a random forest as it comes, AutoGluon (tables) and AutoKeras (images) where they
are installed, and a small network of fixed size that Adam trains for the same time (ended when a third of it brought no
lower validation loss), with the best of its weights by validation. All learn from the same examples but those that each
holds out, and are scored on the same test examples, which each seed draws anew. Settings of the search were chosen on
validation splits.

An arm's result is a line of the state file; what is there is not run again. The interval of a difference is 1.96
standard errors of a score on so many test examples, all seeds together.

    python runs/benchmarks/own_data.py --data-root DIR [--data wine,digits] [--budget 180] [--seeds 0-4] [--quick]
    python runs/benchmarks/own_data.py --table
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from _common import OUT, Figure, environment, figure, finish, guarded
from _own_data.arms import ARMS, BASELINES, FIXED, SEARCH, Task, gain
from _own_data.sets import SETS, spec_of
from _state import Record, append, read

from nas.base.errors import UserError
from nas.ledger.scores import is_fraction, value_text

HERE = Path(__file__).resolve().parent
FOLDER = OUT / "own_data"
SIGNIFICANT = 1.96


def main() -> None:
    """Run what is missing, then print the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=_names, default=list(SETS), metavar="NAMES", help=", ".join(SETS))
    add(
        "--arms", type=lambda text: text.split(","), default=list(ARMS), metavar="NAMES", help=", ".join(ARMS)
    )
    add("--budget", type=float, default=180.0, help="seconds")
    add("--seeds", type=_seeds, default=[0, 1, 2, 3, 4], metavar="N-M", help="0-4, or 0,2,3")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of what is not the search")
    add("--data-root", type=Path, default=None, help="torchvision's folder of data sets")
    add("--state", type=Path, default=HERE / "own_data.jsonl", help="one line of JSON for each run")
    add("--quick", action="store_true", help="seconds: the same code on one table, nothing learned")
    add("--table", action="store_true", help="only print the table")
    given = parser.parse_args()
    if given.quick:
        given.data, given.seeds, given.budget, given.state = ["wine"], [0], None, OUT / "own_data_quick.jsonl"
        given.state.unlink(missing_ok=True)
    if not given.table:
        run(given)
    rows = [row for row in read(given.state) if row["budget"] == given.budget and row["data"] in given.data]
    print(f"\n{table(rows, given.data)}\n")
    finish(__file__, figures(rows, given.data, given.quick))


def run(given: Any) -> None:
    """Do the runs that the state file lacks, seed by seed. Raises UserError if one fails, after the others."""
    torch.set_num_threads(given.threads)
    done = {key_of(row) for row in read(given.state)}
    lacking = {name: reason for name in given.arms if (reason := ARMS[name].lacks())}
    for name, reason in lacking.items():
        print(f"{name} is left out: {reason}")
    wanted = [
        (data, arm, seed, given.budget)
        for seed in given.seeds for data in given.data for arm in given.arms
        if arm not in lacking and (ARMS[arm].tables if SETS[data].table else ARMS[arm].images)
    ]  # fmt: skip
    lost: list[str] = []
    for data, arm, seed, budget in [key for key in wanted if key not in done]:
        name = f"{data} {arm} seed {seed}"
        spec = spec_of(SETS[data], FOLDER, given.data_root, seed)
        began = time.monotonic()
        try:
            found = ARMS[arm].run(Task(spec, seed, budget, FOLDER / f"run-{os.getpid()}", given.threads))
        except UserError as error:
            lost.append(f"{name}: {error}")
            print(f"{name} failed: {error}", flush=True)
            continue
        record = {
            "data": data, "arm": arm, "seed": seed, "budget": budget, "score": found.score, "main": found.main,
            "tested": found.tested, "seconds": round(time.monotonic() - began, 2), **found.facts,
            "finished": time.strftime("%Y-%m-%d %H:%M"), "environment": environment(),
        }  # fmt: skip
        append(given.state, record)
        print(f"{name}: test {value_text(found.main, found.score)}, {record['seconds']:.0f} s", flush=True)
    if lost:
        raise UserError(f"{len(lost)} of {len(wanted)} runs failed, {lost[0]}; run again for these")


def key_of(row: Record) -> tuple[str, str, int, float | None]:
    """What a line of the state file is about."""
    return row["data"], row["arm"], row["seed"], row["budget"]


def scores(rows: Sequence[Record], data: str, arm: str) -> list[float]:
    """The test scores of an arm, seed by seed."""
    found = [row for row in rows if (row["data"], row["arm"]) == (data, arm)]
    return [row["score"] for row in sorted(found, key=lambda row: row["seed"])]


def interval(rows: Sequence[Record], score: float) -> float:
    """Half of the 95 % interval of an arm's mean score on all its test examples; errors are taken as normal."""
    tested = sum(row["tested"] for row in rows)
    if is_fraction(rows[0]["main"]):
        return SIGNIFICANT * max(score * (1 - score), 1 / tested) ** 0.5 / tested**0.5
    return SIGNIFICANT * score / (2 * tested) ** 0.5


def table(rows: Sequence[Record], names: Sequence[str]) -> str:
    """Mean test scores, a line for each data set."""
    lines = ["| data | n | " + " | ".join(ARMS) + " | interval |", "|---" * (len(ARMS) + 3) + "|"]
    for name in names:
        own = [row for row in rows if row["data"] == name]
        if not own:
            continue
        main, means = own[0]["main"], {arm: scores(rows, name, arm) for arm in ARMS}
        seeds = max(map(len, means.values()))
        cells = [_cell(main, found, seeds) for found in means.values()]
        first = next(arm for arm in ARMS if means[arm])
        half = interval([row for row in own if row["arm"] == first], fmean(means[first]))
        lines.append(f"| {name} ({main}) | {seeds} | {' | '.join(cells)} | ± {value_text(main, half)} |")
    return "\n".join(lines)


def _cell(main: str, found: Sequence[float], seeds: int) -> str:
    fewer = f" (n = {len(found)})" if 0 < len(found) < seeds else ""
    return f"{value_text(main, fmean(found))}{fewer}" if found else "–"


def figures(rows: Sequence[Record], names: Sequence[str], quick: bool) -> list[Figure]:
    """What is asked of the search: never below a simple baseline by more than the interval, and mostly above the fixed
    network.
    """
    compared = [name for name in names if scores(rows, name, SEARCH) and scores(rows, name, FIXED)]
    below, above, used = 0, 0, list[float]()
    for name in compared:
        own = [row for row in rows if (row["data"], row["arm"]) == (name, SEARCH)]
        main, mine = own[0]["main"], fmean(scores(rows, name, SEARCH))
        simple = [fmean(found) for arm in BASELINES if (found := scores(rows, name, arm))]
        below += any(gain(main, mine, other) < -interval(own, other) for other in simple)
        above += gain(main, mine, fmean(scores(rows, name, FIXED))) > 0
        used += [row["used"] / row["budget"] for row in own if row["budget"]]
    wanted = (None, None) if quick else ("<= 0", ">= 0.75")
    found = [
        figure(f"of {len(compared)} sets, below a baseline by more than the interval", below, "", wanted[0]),
        figure("share of the sets above the fixed network", above / max(1, len(compared)), "", wanted[1]),
    ]
    return found + ([figure("least share of the budget used", min(used), "", None)] if used else [])


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SETS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(SETS)}")
    return names


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if last else [int(part) for part in text.split(",")]


if __name__ == "__main__":
    guarded(main)
