"""Narrow: fewer channels in one channel group, for searches that also shrink (LEMONADE, arXiv 1804.09081)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis, Role
from morphs.graph.widths import channel_groups, resized
from morphs.move import Context, Made, Move, Options, Origin, Preserves
from morphs.moves.columns import ColumnMaps, following, free_group, in_blocks, spans
from morphs.moves.editing import chosen
from morphs.moves.rows import centred, row_weight, with_lengths
from morphs.network import Network
from morphs.typed import Positive


@dataclass(frozen=True)
class Narrow(Move):
    """Leave the channel group that `node` writes `to` channels; everything tied to it follows.

    how="norm" drops the channels whose ‖incoming‖·‖outgoing‖ is least, over all layers that write and read them;
    a product, since a ReLU lets scale move from the one to the other. Where batch norms follow, γ stands for the
    incoming weights, whose scale they cancel (arXiv 1708.06519). how="random" drops by chance. The weights that
    stay are kept as they are.
    """

    name: ClassVar[str] = "narrow"
    summary: ClassVar[str] = "fewer channels, those of least norm dropped"
    choices: ClassVar[Choices] = {"how": ..., "factor": Positive}

    node: str
    to: int
    how: Literal["norm", "random"] = "norm"

    @property
    def preserves(self) -> Preserves:
        """Approximate."""
        return Preserves.APPROXIMATE

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: how, factor (of the width). One node for each group, the fixed ones included."""
        widths = channel_groups(graph)
        free = widths.free()
        for number, group in enumerate(widths.groups):
            node = free.get(number, group.producers[0])
            for factor in chosen(options, "factor", (0.5, 0.75)):
                for how in chosen(options, "how", ("norm",)):
                    yield cls(node, int(group.width * factor) // group.blocks * group.blocks, how)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        return resized(graph, self._group(graph), self.to)

    def _group(self, graph: ArchGraph) -> int:
        number = free_group(self, graph, self.node)
        group = channel_groups(graph).groups[number]
        if not 0 < self.to < group.width or self.to % group.blocks:
            multiple = f" that {group.blocks} divides" if group.blocks > 1 else ""
            raise self.refuse(
                f'{self.to} is not a narrower width for node "{self.node}"',
                f"give a number from 1 to {group.width - 1}{multiple}",
            )
        return number

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Every tensor with an axis that follows the group, without the columns that are removed."""
        widths = channel_groups(parent.graph)
        number = self._group(parent.graph)
        parent, group = centred(parent, number), widths.groups[number]
        part, left = group.width // group.blocks, self.to // group.blocks
        score = (
            _norms(parent, number)
            if self.how == "norm"
            else torch.randperm(part, generator=context.generator).double()
        )
        chosen = torch.argsort(score, descending=True, stable=True)[:left].sort().values
        kept = in_blocks(chosen.numpy(), part, group.blocks)
        where = ColumnMaps(parent.graph, widths, number, kept)
        made: dict[tuple[str, str], tuple[Tensor, Origin]] = {}
        for (owner, name), axes in following(parent.graph, widths, number):
            maps = tuple(where(owner, axis) for axis in axes)
            if any(index is not None for index in maps):
                origin = Origin((owner, name), maps)
                made[owner, name] = (origin.gather(parent.weights[owner, name]).contiguous(), origin)
        return with_lengths(parent, made, where)


def _norms(network: Network, number: int) -> Tensor:
    """Square of ‖incoming‖·‖outgoing‖ of each unit of one part of channel group `number`; parts are summed."""
    graph, widths = network.graph, channel_groups(network.graph)
    part = widths.groups[number].width // widths.groups[number].blocks
    incoming, outgoing, gamma = (torch.zeros(part, dtype=torch.float64) for _ in range(3))
    for (owner, name), param in graph.params.items():
        op, rows = graph[owner].op, graph[owner].op.rows
        if rows is not None and name == rows.weight:
            weight = row_weight(network, owner, rows)
        elif (name == "weight" and op.role in (Role.LAYER, Role.NORM)) or (op.recurs and len(param.axes) > 1):
            weight = network.weights[owner, name].double()
        else:
            continue
        squares = weight.square()
        for place, axis in enumerate(param.axes):
            if axis is Axis.NONE or (axis is Axis.IN and op.depthwise(graph.input_shapes(owner))):
                continue
            total = gamma if op.role is Role.NORM else outgoing if axis.read else incoming
            column = squares.transpose(0, place).reshape(squares.shape[place], -1).sum(1)
            for group, width, times in spans(graph, widths, owner, axis):
                if group == number:
                    unit = column[: width * times].reshape(width, times).sum(1)
                    total.index_add_(0, torch.arange(width) % part, unit)
                column = column[width * times :]
    return (gamma if bool(gamma.any()) else incoming) * outgoing
