"""Limits on what a child may cost, read off its graph before anything is allocated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from morphs.errors import LimitsError
from morphs.graph.arch import ArchGraph
from morphs.training_memory import training_memory


@dataclass(frozen=True)
class Limits:
    """Upper bounds, each None for no bound: trainable parameters, multiply-adds and activation elements of one
    image, layers with weights on one path, nodes, channels of the widest feature map or vector of a layer, and bytes of
    a training step in float32 with `batch` examples, or one (`morphs.training_memory`).

    Raises LimitsError for a bound that is not a positive number.
    """

    params: int | None = None
    macs: int | None = None
    activations: int | None = None
    depth: int | None = None
    nodes: int | None = None
    width: int | None = None
    memory: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and type(value) not in (int, float):
                raise LimitsError(f"limit {field.name}={value!r} is not a number; give a positive number")
            if value is not None and value < 1:
                raise LimitsError(
                    f"limit {field.name}={value} is below 1, so no network fits; give a positive number"
                )

    def violation(self, graph: ArchGraph) -> str | None:
        """What `graph` breaks, in a sentence; None when it keeps every limit."""
        for name, measure in MEASURES.items():
            most = getattr(self, name)
            if most is not None and (value := measure(graph, self.batch or 1)) > most:
                return f"{name} would be {value}, more than the limit {most}"
        return None


def require_limits(limits: Any, place: str) -> None:
    """Raise LimitsError when `limits` is neither Limits nor None."""
    if limits is not None and not isinstance(limits, Limits):
        fact = f"{place}: limits is of type {type(limits).__name__}"
        raise LimitsError(f"{fact}; give morphs.Limits(params=2e6) or the like")


MEASURES: Mapping[str, Callable[[ArchGraph, int], int]] = MappingProxyType({
    "params": lambda graph, batch: graph.totals.weights,
    "macs": lambda graph, batch: graph.totals.macs,
    "activations": lambda graph, batch: graph.totals.size,
    "depth": lambda graph, batch: graph.depth,
    "nodes": lambda graph, batch: len(graph),
    "width": lambda graph, batch: graph.width,
    "memory": training_memory,
})  # fmt: skip
