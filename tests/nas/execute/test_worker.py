"""What a worker process does between two children."""

import linecache
import os
from typing import Any

import pytest
import torch
import torch.fx.graph_module as fx_modules

import morphs
from nas.execute.worker import PRIMITIVES, bounded_caches, computes, release_memory
from search_spaces import SPACES


def test_a_worker_whose_device_no_longer_answers_is_no_place_for_the_next_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release_memory()
    assert computes("cpu")

    def broken(*size: Any, device: str) -> Any:
        raise torch.AcceleratorError(f"CUDA error: device-side assert triggered on {device}")

    monkeypatch.setattr(torch, "ones", broken)
    assert not computes("cuda")


def kept_sources() -> list[str]:
    return [name for name in linecache.cache if name.startswith("<eval_with_key>")]


def test_a_worker_keeps_no_sources_of_the_networks_that_it_made() -> None:
    graph = SPACES["digits"]((1, 8, 8), 10).seed
    morphs.from_torch(morphs.init(graph).to_torch(), torch.zeros(2, 1, 8, 8))
    linecache.cache["<eval_with_key>.-1"] = (1, None, ["x"], "")  # as a traceback through one leaves it
    release_memory()
    assert not kept_sources()
    assert not fx_modules._loader.eval_cache


def test_a_worker_bounds_what_onednn_keeps_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.delenv(name, raising=False)
    bounded_caches()
    assert 0 < int(os.environ[name]) <= PRIMITIVES
    monkeypatch.setenv(name, "7")
    bounded_caches()
    assert os.environ[name] == "7"
