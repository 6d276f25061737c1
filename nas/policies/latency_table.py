"""Estimates a network's latency from a table of its ops' latencies, measured once and kept in the run."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import morphs
from morphs import ArchGraph, graph_from_json
from morphs.examples import random_inputs
from morphs.graph.arch import Node
from morphs.graph.ops import Embedding, Input, Output
from nas.ledger.notes import Latencies
from nas.policies.sampling import Neighbourhood, random_move

Floats = NDArray[np.float64]
Size = tuple[float, float, float]  # 1, multiply-adds, values read and written


@dataclass(frozen=True)
class Entry:
    """One op with inputs of one shape. seconds: for one image, in eval mode."""

    kind: str
    size: Size
    seconds: float


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of ops, by their text and the shapes of their inputs."""

    entries: Mapping[str, Entry]

    def seconds(self, graph: str) -> float:
        """The latency of the network with this text: the sum over its ops. An op that was not measured gets the value
        of a linear fit through the ops of its kind.
        """
        if graph not in self._known:
            self._known[graph] = sum(self._op(*op) for op in _ops(graph_from_json(graph)))
        return self._known[graph]

    def _op(self, key: str, kind: str, size: Size) -> float:
        known = self.entries.get(key)
        if known is not None:
            return known.seconds
        line = self._lines.get(kind, self._lines[""])
        return max(1e-9, float(np.dot(line, size)))

    @cached_property
    def _known(self) -> dict[str, float]:
        """A cache: every decision asks for the latency of all trials."""
        return {}

    @cached_property
    def _lines(self) -> dict[str, Any]:
        """For each kind, and for all ops under "", the coefficients of seconds as a linear function of size."""
        by_kind: dict[str, list[Entry]] = {"": list(self.entries.values())}
        for entry in self.entries.values():
            by_kind.setdefault(entry.kind, []).append(entry)
        return {
            kind: line_through(np.array([e.size for e in some]), np.array([e.seconds for e in some]))
            for kind, some in by_kind.items()
        }

    @property
    def latencies(self) -> Latencies:
        """The table as a note of the ledger."""
        return {key: (entry.kind, entry.size, entry.seconds) for key, entry in self.entries.items()}


def line_through(sizes: Floats, seconds: Floats) -> Floats:
    """Non-negative coefficients [3] of seconds [N] as a linear function of sizes [N, 3]: least relative squared error.

    Without the bound, noisy measurements would make a larger op cheaper or an unmeasured one free, and a search would
    exploit that. The solution is exact: the best bounded fit is the best unbounded fit on some of the columns, with
    the others 0. Among equal fits the last columns win: an op known at one size only then scales in proportion.
    """
    rows = sizes / seconds[:, None]
    best, least = np.zeros(rows.shape[1]), math.inf
    for count in range(1, rows.shape[1] + 1):
        for columns in combinations(reversed(range(rows.shape[1])), count):
            some = rows[:, columns]
            scale = np.maximum(some.max(axis=0), 1e-300)
            found = np.linalg.lstsq(some / scale, np.ones(len(some)), rcond=None)[0] / scale
            error = float(((some @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < least - 1e-12:
                best, least = np.zeros(rows.shape[1]), error
                best[list(columns)] = found
    return best


def table_from(latencies: Latencies) -> LatencyTable:
    """The table of a ledger's note."""
    return LatencyTable(
        {key: Entry(kind, (1.0, size[1], size[2]), max(1e-9, seconds))
         for key, (kind, size, seconds) in latencies.items()}
    )  # fmt: skip


def measure(
    seed: str,
    moves: Neighbourhood,
    device: str = "cpu",
    walks: int = 6,
    length: int = 8,
    repeats: int = 15,
) -> LatencyTable:
    """Measure, in this process on `device`, the ops that occur on random walks from the network `seed`.

    One image at a time, with the current number of threads. repeats: measurements per op, of which the median counts.
    """
    entries: dict[str, Entry] = {}
    for graph in _walked(seed, moves, walks, length):
        arch = graph_from_json(graph)
        for node, (key, kind, size) in zip(_nodes(arch), _ops(arch), strict=True):
            if key not in entries:
                entries[key] = Entry(kind, size, _time(arch, node, device, repeats))
    return LatencyTable(entries)


def _walked(seed: str, moves: Neighbourhood, walks: int, length: int) -> Iterator[str]:
    yield seed
    for walk in range(walks):
        draw, graph = random.Random(walk), seed
        for _ in range(length):
            step = random_move(moves, graph, draw)
            if step is None:
                break
            graph = step[1]
            yield graph


def _nodes(graph: ArchGraph) -> list[Node]:
    return [node for node in graph if node.inputs and not isinstance(node.op, Output)]


def _ops(graph: ArchGraph) -> list[tuple[str, str, Size]]:
    """For each op its key in the table, its kind and its size."""
    found: list[tuple[str, str, Size]] = []
    for node in _nodes(graph):
        shapes = graph.input_shapes(node.name)
        moved = sum(map(prod, shapes)) + prod(graph.shape(node.name))
        size = (1.0, float(node.op.macs(shapes)), float(moved))
        found.append((f"{node.op!r} {list(shapes)}", node.op.kind, size))
    return found


def _time(graph: ArchGraph, node: Node, device: str, repeats: int) -> float:
    """Median seconds of a single op on random inputs."""
    shapes = graph.input_shapes(node.name)
    names = [f"in{place}" for place in range(len(shapes))]
    tokens = node.op.count if isinstance(node.op, Embedding) else None
    inputs = [Node(name, Input(tuple(shape), tokens)) for name, shape in zip(names, shapes, strict=True)]
    alone = ArchGraph((*inputs, Node("op", node.op, tuple(names)), Node("out", Output(), ("op",))))
    module = morphs.init(alone).to_torch().eval().to(device)
    x = [part.to(device) for part in random_inputs(alone, 1, torch.Generator().manual_seed(0), torch.float32)]
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    laps: list[float] = []
    with torch.inference_mode():
        for _ in range(repeats + 3):
            began = time.perf_counter()
            module(*x)
            wait()
            laps.append(time.perf_counter() - began)
    return median(laps[3:])
