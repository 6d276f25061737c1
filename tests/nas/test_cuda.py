"""Searches whose children train on a GPU: the same bits whoever shares it, interrupted or not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_support import BENCHMARKS
from engine_support import Recorder, tiny

from nas.run import final_training as final
from nas.run.events import Silent
from nas.run.lifecycle import resume, search

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def config(**changes: Any) -> Any:
    """A search of convolutional networks with pools and batch norm."""
    return tiny(**{"space": "nash", "device": "cuda", "children": 3, "epochs": 0.5, **changes})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the search by one worker in one go."""
    return search(config(workers=1), tmp_path_factory.mktemp("alone") / "run", Silent(), "").view.digest


def test_the_same_bits_with_three_workers_on_one_gpu(alone: str, tmp_path: Path) -> None:
    assert search(config(workers=3), tmp_path / "run", Silent(), "").view.digest == alone


def test_the_same_bits_when_interrupted(alone: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert search(config(workers=2), run, Recorder(stop_after=3), "").stopped == "interrupted"
    assert resume(run, Silent()).view.digest == alone


def test_the_same_bits_when_the_final_training_pauses_after_each_epoch(
    alone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final, "PART_SECONDS", 0.0)
    assert search(config(workers=1), tmp_path / "run", Silent(), "").view.digest == alone


def test_a_child_that_breaks_the_gpu_or_fills_it_fails_alone() -> None:
    # A process of its own: workers can't be forked from one that has used the GPU.
    command = [sys.executable, str(BENCHMARKS / "child_faults.py"), "--generations", "2", "--children", "6"]
    ended = subprocess.run([*command, "--device", "cuda"], capture_output=True, text=True)
    figures = json.loads(ended.stdout.splitlines()[-1])["figures"]
    assert [entry["name"] for entry in figures if entry["holds"] is False] == []
