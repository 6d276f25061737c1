"""The example scripts, as a user would start them."""

import os
import runpy
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from nas.ledger import Store

EXAMPLES = Path(__file__).parents[3] / "runs" / "examples"
Tried = list[tuple[str, str]]  # each trial's place in the search and its moves


def said(script: str, *options: str) -> list[str]:
    """The lines that a script prints, run here: importing torch once more would take seconds."""
    told = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(told):
        patch.setattr(sys, "argv", [script, *options])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return told.getvalue().splitlines()


def trials(lines: list[str]) -> Tried:
    found = [line.split(maxsplit=2) for line in lines if line.strip()[:1].isdigit()]
    return [(key, moves) for key, _, moves in found]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    """What Optuna's study tried, stopped after three trials and gone on with."""
    folder = tmp_path_factory.mktemp("optuna")
    first = said("optuna_sampler.py", "--trials", "3", "--folder", str(folder))
    more = said("optuna_sampler.py", "--trials", "5", "--folder", str(folder))
    assert more[-1].startswith("best: trial")
    assert len(Store(folder / "networks").digests()) == 5
    return trials([*first, *more])


def test_an_optuna_study_climbs_and_goes_on_where_it_was(study: Tried) -> None:
    assert [key for key, _ in study] == ["0.0", "1.0", "1.1", "1.2", "1.3"]
    assert [moves != "unchanged" for _, moves in study] == [False, False, True, True, True]


@pytest.mark.benchmark  # starts Ray once more
def test_a_tune_experiment_makes_the_same_climb(study: Tried, tmp_path: Path) -> None:
    """In a process of its own, since it starts Ray."""
    options = ["--generations", "1", "--cpus", "1", "--folder", str(tmp_path)]
    answer = subprocess.run(
        [sys.executable, str(EXAMPLES / "ray_tune_searcher.py"), *options],
        capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1])},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert trials(answer.stdout.splitlines()) == study
    assert len(Store(tmp_path / "networks").digests()) == 5
