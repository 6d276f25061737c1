"""MergeGroups and SplitGroups: a convolution with fewer or more groups that computes the same.

O output channels, I input channels, G groups, K kernel. With G groups the weight is [O, I/G, K, K], the blocks of
the block-diagonal weight [O, I, K, K] of the same convolution without groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from morphs.errors import ShapeError
from morphs.graph.arch import ArchGraph
from morphs.move import Context, Made, Move, Options, Origin
from morphs.moves.editing import convolution_at, convolutions, with_op
from morphs.network import Network


@dataclass(frozen=True)
class MergeGroups(Move):
    """Give the grouped convolution `node` fewer `groups`, a divisor of those it has; the new weights are zero."""

    name: ClassVar[str] = "merge_groups"
    summary: ClassVar[str] = "fewer groups in a convolution, new weights zero"

    node: str
    groups: int = 1

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every grouped convolution, with every divisor of its groups."""
        for name, op in convolutions(graph):
            for groups in _divisors(op.groups):
                if groups < op.groups:
                    yield cls(name, groups)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        op = convolution_at(self, graph, self.node)
        if not 1 <= self.groups < op.groups or op.groups % self.groups:
            fewer = [str(d) for d in _divisors(op.groups) if d < op.groups]
            raise self.refuse(
                f'node "{self.node}" has {op.groups} groups, which don\'t merge to {self.groups}',
                f"choose one of {', '.join(fewer)}" if fewer else "choose a grouped convolution",
            )
        return graph.update(*with_op(graph, self.node, groups=self.groups))

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """The old blocks along the diagonal of larger ones."""
        return _regrouped(self, parent, self.node, self.groups)


@dataclass(frozen=True)
class SplitGroups(Move):
    """Give the convolution `node` more `groups`, a multiple of those it has, where every weight that would be
    removed is exactly zero.
    """

    name: ClassVar[str] = "split_groups"
    summary: ClassVar[str] = "more groups in a convolution whose weights between them are exactly zero"

    node: str
    groups: int

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every convolution, with every number of groups that divides its channels."""
        for name, op in convolutions(graph):
            for groups in _divisors(gcd(op.channels, graph.input_shapes(name)[0][0])):
                if groups > op.groups and groups % op.groups == 0:
                    yield cls(name, groups)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        op = convolution_at(self, graph, self.node)
        if self.groups <= op.groups or self.groups % op.groups:
            raise self.refuse(
                f'node "{self.node}" has {op.groups} groups, which don\'t split into {self.groups}',
                "choose a larger multiple of them",
            )
        try:
            return graph.update(*with_op(graph, self.node, groups=self.groups))
        except ShapeError as error:
            raise self.refuse(str(error), "choose a divisor of both") from None

    def check_weights(self, network: Network) -> None:
        """Every weight between the new groups must be zero."""
        op = convolution_at(self, network.graph, self.node)
        weight = network.weights[network.graph[self.node].owner, "weight"]
        if any(bool(part.any()) for part in _between(weight, op.groups, self.groups)):
            raise self.refuse(
                f'node "{self.node}" has weights between the {self.groups} groups that are not 0',
                "choose fewer groups, or set them to 0",
            )

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """The blocks that stay."""
        return _regrouped(self, parent, self.node, self.groups)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _between(weight: Tensor, before: int, after: int) -> Iterator[Tensor]:
    """The parts of `weight` that are removed when `before` groups become `after`; of each group one row first, which
    decides most often.
    """
    rows, share = len(weight) // after, weight.shape[1]
    width = share * before // after
    for group in range(after):
        block = weight[group * rows : (group + 1) * rows]
        start = group * width % share
        for some in (block[:1], block):
            yield from (some[:, :start], some[:, start + width :])


def _regrouped(move: Move, parent: Network, name: str, groups: int) -> Made:
    """The weight of convolution `name` for another number of groups: kept where both have it, else zero."""
    key = (parent.graph[name].owner, "weight")
    weight, before = parent.weights[key], convolution_at(move, parent.graph, name).groups
    outs, share = weight.shape[:2]  # share = I/G
    ins = share * before
    rows = np.arange(outs)[:, None]
    inputs = rows // (outs // groups) * (ins // groups) + np.arange(ins // groups)  # that each output reads
    columns = inputs - rows // (outs // before) * share  # where the parent keeps their weights
    there = (columns >= 0) & (columns < share)
    entries = np.arange(weight.numel()).reshape(weight.shape)[rows, columns.clip(0, share - 1)]
    origin = Origin(key, (), np.where(there.reshape(*there.shape, *[1] * (weight.dim() - 2)), entries, -1))
    return {key: (origin.gather(weight), origin)}
