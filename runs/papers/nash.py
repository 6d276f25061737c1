"""NASH (Elsken, Metzen and Hutter, arXiv 1711.04528) on CIFAR-10: hill climbing by morphs, and its baselines.

Each generation has children of the incumbent, by a few random moves each, and the unchanged parent; all train for as
many images under one cosine, and the best is the next incumbent, which a final training ends. The baselines leave out
one part each: children that start from random weights, a rate that does not restart, and no selection at all: one child
a generation, whatever it is worth. `Setting` says how much shorter than the paper a setting is.

On a GPU, --full is the paper's length, and --minutes 10 or 60 the search of this project with nothing but a budget: the
whole cost counts, and what is wanted is under 6 % error in ten minutes and under 5 % in an hour.

The test split is read once a run, at its end. A run's result is a line of the state file; what is there is not run
again. A search that was interrupted starts anew.

    python runs/papers/nash.py --data-root DIR [--seeds 0 1 2] [--arms NAMES] [--quick | --full | --minutes N]
        [--device cuda]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from _common import Figure, environment, figure, finish, guarded  # noqa: E402
from _state import Record, append, read  # noqa: E402

import morphs  # noqa: E402
import nas  # noqa: E402
from nas.data import load_search_data  # noqa: E402
from nas.ledger import read_config  # noqa: E402
from nas.registry.configure import check_config  # noqa: E402
from nas.run.charge import spent  # noqa: E402

OUT = HERE / "out" / "nash"  # runs while they work; git ignores it


@dataclass(frozen=True)
class Setting:
    """How long it takes: generations of `children` and their parent, epochs of each, share of the final training."""

    generations: int
    children: int
    epochs: float
    final_share: float
    moves: int = 5


# The paper: 5 generations of 8 competitors, 5 moves for a child, 17 epochs each, and 100 at the end.
SETTINGS = {
    "hours": Setting(generations=5, children=7, epochs=0.4, final_share=0.6),
    "full": Setting(generations=5, children=7, epochs=17, final_share=0.5),
    "quick": Setting(generations=1, children=1, epochs=0.002, final_share=0.3),
}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "hill climbing": {},
    "no inheritance": {"weights": "fresh"},
    "no restarts": {"schedule": "lineage"},
    "random networks": {"children": 1, "policy_settings": {"parent": False}},
}
WHAT = {
    "hill climbing": "NASH",
    "no inheritance": "every competitor from random weights",
    "no restarts": "one schedule instead of a cosine for each trial",
    "random networks": "one child a generation, which is always taken",
}
TARGETS = {10: "< 6", 60: "< 5"}  # % of test images that are wrong, by minutes on one H200


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=Path, default=None, help="torchvision's folder of data sets")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add(
        "--arms", type=lambda text: text.split(","), default=list(ARMS), metavar="NAMES", help=", ".join(ARMS)
    )
    add("--device", default="cpu")
    add("--state", type=Path, default=HERE / "nash.jsonl", help="one line of JSON for each run")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", action="store_true", help="the paper's length: days on a GPU")
    length.add_argument("--minutes", type=int, help="instead: our search with this budget")
    length.add_argument("--quick", action="store_true", help="a minute: the same code, nothing learned")
    given = parser.parse_args()
    setting = "full" if given.full else "quick" if given.quick else "hours"
    arms: list[str] = given.arms
    if given.minutes:
        setting, arms = f"{given.minutes} minutes", ["search"]
    if given.quick:
        arms = arms[:2]
        given.seeds, given.state = given.seeds[:1], OUT.parent / "nash_quick.jsonl"
        given.state.unlink(missing_ok=True)
    done = {(row["setting"], row["arm"], row["seed"]) for row in read(given.state)}
    for seed in given.seeds:
        for arm in arms:
            if (setting, arm, seed) not in done:
                record = one_run(setting, arm, seed, given)
                append(given.state, record)
                wrong = 100 * (1 - record["test"])
                print(
                    f"{arm}, seed {seed}: {wrong:.2f} % wrong, {record['seconds'] / 60:.0f} min", flush=True
                )
    rows = [row for row in read(given.state) if row["setting"] == setting and row["arm"] in arms]
    print(f"\n{table(rows, arms)}\n")
    finish(__file__, figures(rows, given.minutes))


def one_run(setting: str, arm: str, seed: int, given: Any) -> Record:
    """One search, and its line."""
    folder = OUT / f"{setting}_{arm}_{seed}".replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    shared = {
        "data": "cifar10", "data_root": str(given.data_root) if given.data_root else None, "seed": seed,
        "device": given.device, "run": folder, "quiet": True,
    }  # fmt: skip
    if given.minutes:
        run = nas.search("auto", budget=f"{given.minutes}m", **shared)
    else:
        run = nas.search("nash", **{**settings(SETTINGS[setting]), **ARMS[arm], **shared})
    config = check_config(read_config(folder).config["config"])
    network = run.best.network
    held = len(load_search_data("cifar10", given.data_root, seed, config.val_fraction).val)
    assert run.test is not None
    record = {
        "setting": setting, "arm": arm, "seed": seed, "test": run.test["accuracy"],
        "validation": run.best.scores["val_accuracy"], "params": morphs.cost(network.graph).params,
        "macs": morphs.cost(network.graph).macs, "cost": spent(run.view, config, held),
        "trials": len(run.trials), "grew": grew(run), "seconds": round(run.status.seconds, 1),
        "finished": time.strftime("%Y-%m-%d %H:%M"), "environment": environment(),
    }  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return record


def settings(setting: Setting) -> dict[str, Any]:
    """A setting as arguments of `nas.search`."""
    return {
        "generations": setting.generations, "children": setting.children, "moves_per_child": setting.moves,
        "epochs": setting.epochs, "final_share": setting.final_share, "equal": "images", "schedule": "restarts",
    }  # fmt: skip


def grew(run: nas.Run) -> int:
    """How often a child became the incumbent on the way to the final network."""
    times, trial = 0, run.best
    while (before := trial.parent) is not None:
        trial = run.trial(before)
        times += trial.kind == "child"
    return times


def table(rows: Sequence[Record], arms: Sequence[str]) -> str:
    """A line for each arm."""
    lines = [
        "| arm | what | wrong, % | n | grew | parameters | cost, 10¹² multiply-adds | minutes |",
        "|---" * 8 + "|",
    ]
    for arm in arms:
        found = [row for row in rows if row["arm"] == arm]
        if not found:
            continue
        wrong = [100 * (1 - row["test"]) for row in found]
        spread = f" ± {stdev(wrong):.2f}" if len(wrong) > 1 else ""
        params, cost, minutes = (
            mean(row[name] for row in found) / unit
            for name, unit in (("params", 1), ("cost", 1e12), ("seconds", 60))
        )
        grew = ", ".join(str(row["grew"]) for row in found)
        lines.append(
            f"| {arm} | {WHAT.get(arm, 'our search')} | {mean(wrong):.2f}{spread} | {len(found)} "
            f"| {grew} | {params:,.0f} | {cost:.3g} | {minutes:.0f} |"
        )
    return "\n".join(lines)


def figures(rows: Sequence[Record], minutes: int | None) -> list[Figure]:
    """The error of each arm, with a target for the search on a GPU alone."""
    target = TARGETS.get(minutes or 0)
    return [
        figure(
            f"{arm}: wrong", mean(100 * (1 - row["test"]) for row in rows if row["arm"] == arm), "%", target
        )
        for arm in dict.fromkeys(row["arm"] for row in rows)
    ]


if __name__ == "__main__":
    guarded(main)
