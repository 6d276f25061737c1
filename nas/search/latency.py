"""How long a network takes, from a table of what its ops take: measured once, kept in the run."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from statistics import median
from typing import Any

import numpy as np
import torch

import morphs
from morphs import ArchGraph, graph_from_json
from morphs.graph.arch import Node
from morphs.graph.ops import Input, Output
from nas.search.moves import Neighbourhood, random_move

Size = tuple[float, float, float]  # 1, multiply-adds, numbers read and written


@dataclass(frozen=True)
class Entry:
    """One op on inputs of one shape. seconds: for one image, in eval mode."""

    kind: str
    size: Size
    seconds: float


@dataclass(frozen=True)
class LatencyTable:
    """What ops take, by their text and the shapes of their inputs."""

    entries: Mapping[str, Entry]

    def seconds(self, graph: str) -> float:
        """What the network of this text takes: the sum over its ops. An op that was not measured is put on the line
        through those of its kind.
        """
        return sum(self._op(key, kind, size) for key, kind, size in _ops(graph_from_json(graph)))

    def _op(self, key: str, kind: str, size: Size) -> float:
        known = self.entries.get(key)
        if known is not None:
            return known.seconds
        line = self._lines.get(kind, self._lines[""])
        return max(1e-9, float(np.dot(line, size)))

    @cached_property
    def _lines(self) -> dict[str, Any]:
        """For each kind, and for all ops under "", seconds as a linear function of size: least squares."""
        kinds = {entry.kind for entry in self.entries.values()}
        return {kind: self._line(kind) for kind in (*kinds, "")}

    def _line(self, kind: str) -> Any:
        told = [entry for entry in self.entries.values() if kind in ("", entry.kind)]
        sizes, seconds = np.array([entry.size for entry in told]), np.array([entry.seconds for entry in told])
        return np.linalg.lstsq(sizes, seconds, rcond=None)[0]

    def to_json(self) -> dict[str, list[Any]]:
        """As a note of the ledger."""
        return {key: [entry.kind, list(entry.size), entry.seconds] for key, entry in self.entries.items()}


def table_from(document: Mapping[str, Any]) -> LatencyTable:
    """The table of `LatencyTable.to_json`."""
    return LatencyTable(
        {key: Entry(str(kind), (1.0, float(size[1]), float(size[2])), float(seconds))
         for key, (kind, size, seconds) in document.items()}
    )  # fmt: skip


def measure(
    seed: str, moves: Neighbourhood, walks: int = 6, length: int = 8, repeats: int = 15
) -> LatencyTable:
    """A table of the ops that random walks from the network `seed` come upon, measured in this process.

    One image at a time, the number of threads as it is set. repeats: of which the median counts.
    """
    entries: dict[str, Entry] = {}
    for graph in _walked(seed, moves, walks, length):
        arch = graph_from_json(graph)
        for node, (key, kind, size) in zip(_nodes(arch), _ops(arch), strict=True):
            if key not in entries:
                entries[key] = Entry(kind, size, _time(arch, node, repeats))
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
    return [node for node in graph if not isinstance(node.op, Input | Output)]


def _ops(graph: ArchGraph) -> list[tuple[str, str, Size]]:
    """For each op its key in the table, its kind and its size."""
    found: list[tuple[str, str, Size]] = []
    for node in _nodes(graph):
        shapes = graph.input_shapes(node.name)
        moved = sum(map(prod, shapes)) + prod(graph.shape(node.name))
        size = (1.0, float(node.op.macs(shapes)), float(moved))
        found.append((f"{node.op!r} {list(shapes)}", node.op.kind, size))
    return found


def _time(graph: ArchGraph, node: Node, repeats: int) -> float:
    """Median seconds of one op alone, on random inputs."""
    shapes = graph.input_shapes(node.name)
    names = [f"in{place}" for place in range(len(shapes))]
    inputs = [Node(name, Input(tuple(shape))) for name, shape in zip(names, shapes, strict=True)]
    alone = ArchGraph((*inputs, Node("op", node.op, tuple(names)), Node("out", Output(), ("op",))))
    module = morphs.init(alone).to_torch().eval()
    x = [torch.rand(1, *shape) for shape in shapes]
    laps: list[float] = []
    with torch.inference_mode():
        for _ in range(repeats + 3):
            began = time.perf_counter()
            module(*x)
            laps.append(time.perf_counter() - began)
    return median(laps[3:])
