"""What a worker process does between two children."""

from typing import Any

import pytest
import torch

from nas.execute.worker import computes, release_memory


def test_a_worker_whose_device_no_longer_answers_is_no_place_for_the_next_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release_memory()
    assert computes("cpu")

    def broken(*size: Any, device: str) -> Any:
        raise torch.AcceleratorError(f"CUDA error: device-side assert triggered on {device}")

    monkeypatch.setattr(torch, "ones", broken)
    assert not computes("cuda")
