"""How large new weights are: as large as the trained weights around them, at their own fan-in."""

from math import prod, sqrt

import torch
from torch import Tensor

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Shape
from morphs.network import Network

HE = sqrt(2)  # gain of He-normal weights
DEAD = 1e-8  # a smaller gain is that of a layer without weights to speak of


def gain_near(network: Network, name: str) -> float:
    """Gain of the layer nearest to `name`, itself or upstream, else downstream; that of He-normal weights where none
    has one. The gain is the root mean square of the weights times the root of their fan-in.
    """
    graph = network.graph
    for layer in (*_layers_from(graph, name, up=True), *_layers_from(graph, name, up=False)):
        weight = network.weights[layer, "weight"]
        gain = _size(weight) * sqrt(fan_in(tuple(weight.shape)))
        if gain > DEAD:
            return gain
    return HE


def deviation(weight: Tensor) -> float:
    """The root mean square of trained weights [out, in, *kernel]; that of He-normal ones where they are all but 0."""
    size, fan = _size(weight), fan_in(tuple(weight.shape))
    return size if size * sqrt(fan) > DEAD else HE / sqrt(fan)


def _size(weight: Tensor) -> float:
    return float(weight.double().square().mean().sqrt())


def fan_in(shape: Shape) -> int:
    """Of weights [out, in, *kernel]: the numbers that one output reads."""
    return max(1, prod(shape[1:]))


def normal(shape: Shape, gain: float, generator: torch.Generator) -> Tensor:
    """Normal weights [out, in, *kernel] of this gain, in float64."""
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn.mul_(gain / sqrt(fan_in(shape)))


def _layers_from(graph: ArchGraph, name: str, up: bool) -> list[str]:
    """The owners of the layers met on the way up, or down, from `name`, the nearest first."""
    found: list[str] = []
    seen, front = {name}, [name]
    while front:
        found += [graph[one].owner for one in front if graph[one].op.layer is not None]
        beyond = [
            other
            for one in front
            for other in (graph[one].inputs if up else [reader for reader, _ in graph.consumers(one)])
        ]
        front = [other for other in dict.fromkeys(beyond) if other not in seen]
        seen.update(front)
    return found
