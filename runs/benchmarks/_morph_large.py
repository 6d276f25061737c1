"""Large networks from torchvision: import, listing, one move with its measurement, memory.

In processor seconds of one thread, so that a busy machine counts for less; memory in a process of its own.

    python runs/benchmarks/morph_speed.py --part large [--quick]
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
import torchvision
from _common import Figure, figure
from _memory import peak_above

import morphs

PIXELS = 64
STAGE = "widen(node=layer3.0.conv3, to=1280)"  # the channels that all blocks of a stage add to
VGG = "widen(node=features.24, to=640)"


def large(quick: bool) -> list[Figure]:
    """Seconds of import, listing and a measured move; the memory of a measurement."""
    torch.set_num_threads(1)
    rounds = 1 if quick else 5
    model, probe = torchvision.models.resnet50().eval(), torch.randn(4, 3, PIXELS, PIXELS)
    example = probe[:2]
    batch = ({0: torch.export.Dim.AUTO},)
    net = morphs.from_torch(model, example)  # and so torch has set itself up
    beyond = [
        _seconds(lambda: morphs.from_torch(model, example))
        - _seconds(lambda: torch.export.export(model, (example,), dynamic_shapes=batch, strict=False))
        for _ in range(rounds)
    ]
    widened = [_seconds(lambda: morphs.apply(net, STAGE, probe=probe)) for _ in range(rounds)]
    dense = "densenet121" if quick else "densenet201"
    wide = morphs.from_torch(torchvision.models.get_model(dense), example, modes="eval")
    sites, listed = (
        [_seconds(partial(_listed, graph)) for graph in map(morphs.graph_from_json, [document] * rounds)]
        for document in (net.graph.to_json(), wide.graph.to_json())
    )
    share = _apart(_drift_memory)
    n = f", median of {rounds}"
    return [
        figure(f"ResNet-50, import beyond torch's own export{n}", median(beyond), "s", "<= 1.5"),
        figure(f"ResNet-50, a stage widened and measured on 64×64 pixels{n}", median(widened), "s", "<= 2"),
        figure(f"ResNet-50, all sites{n}", median(sites), "s", "<= 1"),
        figure(f"{dense}, all sites{n}", median(listed), "s", "<= 3"),
        figure("VGG-16, a move measured: peak memory over its weights", share, "×", "<= 4"),
    ]


def _seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _listed(graph: morphs.ArchGraph) -> int:
    return sum(1 for move in morphs.MOVES for _ in move.sites(graph))


def _drift_memory() -> float:
    """The network itself counted too: its weights, and what a measured move adds at its peak."""
    net = morphs.from_torch(torchvision.models.vgg16(), torch.randn(2, 3, PIXELS, PIXELS))
    weights = sum(tensor.nbytes for tensor in net.weights.values())
    probe = torch.randn(4, 3, PIXELS, PIXELS)
    return 1 + peak_above(lambda: morphs.apply(net, VGG, probe=probe)) / weights


def _apart(work: Callable[[], float]) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work)
