"""The example scripts, as a user would start them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.ledger import Store

ROOT = Path(__file__).parents[2]


def lines_of(script: str, *options: str) -> list[str]:
    command = [sys.executable, str(ROOT / "runs" / "examples" / script), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


@pytest.mark.timeout(900)
def test_both_libraries_loops_make_the_same_climb(tmp_path: Path) -> None:
    """Optuna's study is stopped after three trials and goes on; Tune trains its trials in Ray workers."""
    folder = tmp_path / "optuna"
    first = lines_of("optuna_sampler.py", "--trials", "3", "--folder", str(folder))
    more = lines_of("optuna_sampler.py", "--trials", "5", "--folder", str(folder))
    tried = [line.split(maxsplit=2) for line in [*first[:-1], *more[:-1]]]
    assert [trial[0] for trial in tried] == ["0.0", "1.0", "1.1", "1.2", "1.3"]
    assert more[-1].startswith("best: trial")
    assert len(Store(folder / "networks").digests()) == 5

    folder = tmp_path / "ray"
    said = lines_of("ray_tune_searcher.py", "--generations", "1", "--folder", str(folder))
    again = [line.split(maxsplit=2) for line in said if line.strip()[:1].isdigit()]
    assert [(trial[0], trial[2]) for trial in again] == [(trial[0], trial[2]) for trial in tried]
    assert len(Store(folder / "networks").digests()) == 5
