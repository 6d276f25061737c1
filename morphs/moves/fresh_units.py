"""Fresh units that are as large as a layer's trained ones, on both sides."""

import numpy as np
import torch
from torch import Tensor

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis, Param
from morphs.graph.widths import channel_groups
from morphs.init import fresh
from morphs.move import Index, Origin
from morphs.moves.columns import ColumnMaps, following
from morphs.moves.spread import deviation
from morphs.network import Key, Network


def with_fresh_units(
    parent: Network, graph: ArchGraph, number: int, units: Index, generator: torch.Generator
) -> Network:
    """`parent` as a network of `graph`, whose channel group `number` has `units`, −1 where they are new.

    Weights of new units, incoming and outgoing, have the standard deviation of their layer's trained ones; biases,
    norms and factors start as in a fresh network. It computes something else than `parent`.
    """
    before, widths = parent.graph, channel_groups(parent.graph)
    columns = ColumnMaps(before, widths, number, units)
    made: dict[Key, Tensor] = {}
    for key, axes in following(before, widths, number):
        maps = tuple(columns(key[0], axis) for axis in axes)
        if any(index is not None for index in maps):
            tensor = Origin(key, maps).gather(parent.weights[key])
            drawn = _drawn(before.params[key], tensor, parent.weights[key], generator)
            made[key] = torch.where(_new(tensor, axes, maps), drawn.to(tensor), tensor)
    return parent.derived(graph, made)


def _drawn(param: Param, tensor: Tensor, trained: Tensor, generator: torch.Generator) -> Tensor:
    """New values of the shape of `tensor`, in float64."""
    if param.start is not None:
        return fresh(param, tuple(tensor.shape), generator)
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return drawn.mul_(deviation(trained))


def _new(tensor: Tensor, axes: tuple[Axis, ...], maps: tuple[Index | None, ...]) -> Tensor:
    """Which numbers of `tensor` are in a row or column of a new unit: a mask that broadcasts to its shape."""
    new = torch.zeros([1] * len(axes), dtype=torch.bool)
    for place, index in enumerate(maps):
        if index is not None:
            new = new | torch.from_numpy(np.asarray(index < 0)).reshape(
                [-1 if axis == place else 1 for axis in range(len(axes))]
            )
    return new.to(tensor.device)
