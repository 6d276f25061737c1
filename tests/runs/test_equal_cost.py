"""The tables of equal_cost.py from a state file whose differences are known, against scipy; and that it resumes."""

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any
from xml.etree import ElementTree

import pytest
from runs_support import started
from scipy.stats import ttest_1samp

SCRIPT = "benchmarks/equal_cost.py"
ENGINE = (0.812, 0.807, 0.823, 0.801, 0.815)
SEED = (0.801, 0.809, 0.811, 0.795, 0.799)
WIDE = {"x1.5": (0.70, 0.71, 0.72, 0.73, 0.74), "x2": (0.81, 0.80, 0.79, 0.78, 0.77)}


def line(arm: str, seed: int, test: float, variant: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "data": "cifar10", "budget": "large", "arm": arm, "variant": variant, "seed": seed, "images": 12_000,
        "shrink": 2, "epochs": 72,
        "val_accuracy": test + 0.01, "val_loss": 1.0, "test_accuracy": test, "test_loss": 1.0,
        "budget_cost": 1000, "cost": 990, "by_purpose": {"train": 990}, "seconds": 9.0, "params": 7, "macs": 3,
        "curve": [[100, 1.0, 0.5], [990, 9.0, test + 0.01]], **changes,
    }  # fmt: skip


def lines() -> list[dict[str, Any]]:
    found = [line("engine", seed, test) for seed, test in enumerate(ENGINE)]
    found += [line("seed", seed, test) for seed, test in enumerate(SEED)]
    found += [line("afresh", seed, test) for seed, test in enumerate(reversed(ENGINE))]
    for variant, tests in WIDE.items():
        found += [line("sizes", seed, test, variant) for seed, test in enumerate(tests)]
    # Not to be counted: another number of images, another length of the budget, another seed.
    stale = [line("seed", 0, 0.1, images=500), line("seed", 1, 0.1, epochs=1), line("seed", 9, 0.1)]
    return [*found, *stale]


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    state = folder / "state.jsonl"
    state.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"data": "cif')  # cut short by a kill
    return state


def cells(printed: str, arm: str) -> list[str]:
    rows = [text.strip("|").split("|") for text in printed.splitlines() if text.startswith(f"| {arm} |")]
    return next([cell.strip() for cell in row] for row in rows if len(row) == 10)  # not of the list of arms


def test_paired_differences_are_those_of_scipy(tmp_path: Path) -> None:
    done = started(SCRIPT, "--table", "--state", str(written(tmp_path, lines())))
    assert done.returncode == 0, done.stderr
    best = [max(several) for several in zip(SEED, *WIDE.values(), strict=True)]
    middle = [mean(several) for several in zip(*WIDE.values(), strict=True)]
    for arm, rival in {"seed": SEED, "sizes, best by validation": best, "sizes, median": middle}.items():
        gained = [100 * (ours - theirs) for ours, theirs in zip(ENGINE, rival, strict=True)]
        low, high = ttest_1samp(gained, 0).confidence_interval(0.95)
        found = cells(done.stdout, arm)
        shown = re.fullmatch(r"([+-][\d.]+) ± ([\d.]+)", found[3])
        assert shown is not None
        assert [float(part) for part in shown.groups()] == pytest.approx(
            [mean(gained), (high - low) / 2], abs=0.006
        )
        assert found[4] == f"{sum(gain > 0 for gain in gained)} of 5"
    told = {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])["figures"]}
    assert told["cifar10, large: engine minus seed, n = 5"]["value"] == pytest.approx(0.86)
    assert told["cost, the most of any arm, in budgets"]["value"] == 0.99
    sure = told["comparisons whose interval is above zero"]
    assert (sure["value"], sure["unit"]) == (pytest.approx(2 / 3), "of 3")


def test_an_arm_over_its_budget_is_told(tmp_path: Path) -> None:
    done = started(
        SCRIPT, "--table", "--state", str(written(tmp_path, [*lines(), line("optuna", 0, 0.9, cost=1001)]))
    )
    told = {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])["figures"]}
    assert told["cost, the most of any arm, in budgets"]["holds"] is False


def test_curves_are_drawn_beside_the_state_file(tmp_path: Path) -> None:
    state = written(tmp_path, lines())
    assert started(SCRIPT, "--plot", "--state", str(state)).returncode == 0
    drawn = ElementTree.parse(tmp_path / "state_cifar10.svg").getroot()
    names = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"engine", "seed", "sizes, best by validation"} <= names
    # Four arms against cost and against seconds.
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 8


@pytest.mark.benchmark
def test_a_run_that_is_there_is_not_done_again(tmp_path: Path) -> None:
    ask = (
        "--data",
        "digits",
        "--budgets",
        "small",
        "--arms",
        "seed",
        "--state",
        str(tmp_path / "state.jsonl"),
    )
    first = started(SCRIPT, *ask, "--seeds", "0")
    assert first.returncode == 0, first.stderr
    more = started(SCRIPT, *ask, "--seeds", "0-1")
    assert "[1/1] digits_small_seed_1 " in more.stdout
    rows = [json.loads(text) for text in (tmp_path / "state.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(0.9 < row["cost"] / row["budget_cost"] <= 1 for row in rows)
