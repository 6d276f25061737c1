"""What a graph costs, read off the graph alone: nothing is allocated."""

from dataclasses import dataclass
from math import prod

from morphs.graph.arch import ArchGraph


@dataclass(frozen=True)
class Cost:
    """Costs of one architecture; multiply-adds and activations are for one image's forward pass."""

    params: int  # trainable numbers
    macs: int  # multiply-adds of convolutions and matrix products
    activations: int  # elements written by all nodes
    depth: int  # most layers with weights (conv2d, linear) on one path


def cost(graph: ArchGraph) -> Cost:
    """Parameters, multiply-adds, activation elements and depth of `graph`."""
    depth: dict[str, int] = {}
    for node in graph:
        below = max((depth[source] for source in node.inputs), default=0)
        depth[node.name] = below + (node.op.kind in ("conv2d", "linear"))
    return Cost(
        params=sum(prod(param.shape) for param in graph.params.values() if param.trainable),
        macs=sum(node.op.macs(graph.input_shapes(node.name)) for node in graph),
        activations=sum(prod(graph.shape(node.name)) for node in graph),
        depth=depth[graph.output.name],
    )
