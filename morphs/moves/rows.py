"""Layers that divide each row of a weight by the row's length: that length when the row gets other columns.

A layer's weight is w = g · (v − mean) / length (see `graph.layers.Rows`; weight norm has no mean). Moves treat v − mean
as a plain weight; it becomes what w is to be but for the row's length, and g takes up the ratio of the two lengths.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from morphs.graph.arch import ArchGraph
from morphs.graph.layers import Rows
from morphs.graph.ops import Axis
from morphs.graph.widths import channel_groups
from morphs.move import Made, Origin
from morphs.moves.columns import ColumnMaps, depthwise, following, spans
from morphs.network import Key, Network


def normed(graph: ArchGraph, number: int) -> Iterator[tuple[str, Rows]]:
    """The layers that compute their weight, among those that write or read channel group `number`."""
    for owner in dict.fromkeys(key[0] for key, _ in following(graph, channel_groups(graph), number)):
        if (rows := graph[owner].op.rows) is not None:
            yield owner, rows


def centred(network: Network, number: int) -> Network:
    """`network` with the means of the rows subtracted that get other columns with channel group `number`.

    It computes the same.
    """
    graph, widths = network.graph, channel_groups(network.graph)
    made: dict[Key, Tensor] = {}
    for owner, rows in normed(graph, number):
        reads = number in {group for group, _, _ in spans(graph, widths, owner, Axis.IN)}
        if rows.centred and reads and not depthwise(graph, owner):
            weight = network.weights[owner, rows.weight]
            made[owner, rows.weight] = (weight.double() - _means(weight)).to(weight)
    return network.derived(graph, made) if made else network


def with_lengths(parent: Network, made: Made, source: ColumnMaps) -> Made:
    """The tensors of a child of `parent`, whose rows are centred, with the factors that keep the weights.

    source: which of the parent's rows each row is made of, copies included. The means that `centred` took away are not
    put back: they count for nothing.
    """
    found = dict(made)
    for (owner, name), (tensor, origin) in made.items():
        rows = parent.graph[owner].op.rows
        if rows is None or rows.factor is None or name != rows.weight or origin.axes[1] is None:
            continue
        weight, key = parent.weights[owner, name], (owner, rows.factor)
        index = source(owner, Axis.OUT)
        index = torch.arange(len(weight)) if index is None else torch.from_numpy(index)
        before, old = _lengths(weight, rows)[index.clamp(min=0)], index >= 0
        ratio = torch.where(old, _lengths(tensor, rows) / before, 1.0)
        factor, where = made.get(key, (parent.weights[key], Origin(key)))
        if not where.axes or where.axes[0] is None:
            where = Origin(key, (np.arange(len(factor)), *(None for _ in factor.shape[1:])))
        found[key] = (factor.double() * ratio.reshape(factor.shape)).to(factor), where
    return found


def row_weight(network: Network, owner: str, rows: Rows) -> Tensor:
    """The weight that a layer computes but for a common factor, in float64."""
    weight = network.weights[owner, rows.weight].double()
    lengths = _lengths(weight, rows).reshape(-1, *(1 for _ in weight.shape[1:]))
    weight = (weight - _means(weight) if rows.centred else weight) / lengths
    return weight if rows.factor is None else weight * network.weights[owner, rows.factor].double()


def _means(weight: Tensor) -> Tensor:
    return weight.double().flatten(1).mean(1).reshape(-1, *(1 for _ in weight.shape[1:]))


def _lengths(weight: Tensor, rows: Rows) -> Tensor:
    flat = weight.double().flatten(1)
    return (flat.var(1, correction=0) + rows.eps).sqrt() if rows.centred else flat.norm(dim=1)
