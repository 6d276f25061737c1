"""Searches whose children train on a GPU: the same bits whoever shares it, interrupted or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
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
