"""What a graph costs, read off the graph alone: nothing is allocated."""

from dataclasses import dataclass

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
    totals = graph.totals
    return Cost(totals.weights, totals.macs, totals.size, graph.depth)
