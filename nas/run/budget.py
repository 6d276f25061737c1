"""Measures how long a training step takes on this machine, with the real network and data, in about a second."""

from __future__ import annotations

import time

from morphs import ArchGraph, init
from nas.base import machine
from nas.data import SearchData
from nas.train import TrainConfig, train


def seconds_per_step(
    graph: ArchGraph,
    data: SearchData,
    config: TrainConfig,
    device: str = "cpu",
    threads: int = 1,
    steps: int = 5,
) -> float:
    """Mean wall seconds of a training step of `graph` with `threads` threads. Used only to check a budget."""
    with machine.threads(threads):
        module = init(graph).to_torch()
        train(module, data, steps=1, config=config, seed=0, device=device)
        start = time.perf_counter()
        train(module, data, steps=steps, config=config, seed=0, device=device)
        return (time.perf_counter() - start) / steps
