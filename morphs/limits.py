"""Limits on what a child may cost, read off its graph before anything is allocated."""

from dataclasses import dataclass, fields

from morphs.graph.arch import ArchGraph
from morphs.graph.cost import cost


@dataclass(frozen=True)
class Limits:
    """Upper bounds, each None for no bound: trainable parameters, multiply-adds and activation elements of one
    image, layers with weights on one path, nodes, channels of the widest feature map or vector of a layer.
    """

    params: int | None = None
    macs: int | None = None
    activations: int | None = None
    depth: int | None = None
    nodes: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise ValueError(
                    f"limit {field.name}={value} is below 1, so no network fits; give a positive number"
                )

    def violation(self, graph: ArchGraph) -> str | None:
        """What `graph` breaks, in a sentence; None when it keeps every limit."""
        if all(getattr(self, field.name) is None for field in fields(self)):
            return None
        spent = cost(graph)
        widest = max(
            graph.shape(n.name)[0] for n in graph if n.op.kind in ("conv2d", "linear", "concat", "input")
        )
        values = {
            "params": spent.params,
            "macs": spent.macs,
            "activations": spent.activations,
            "depth": spent.depth,
            "nodes": len(graph),
            "width": widest,
        }
        for name, value in values.items():
            most = getattr(self, name)
            if most is not None and value > most:
                return f"{name} would be {value}, more than the limit {most}"
        return None
