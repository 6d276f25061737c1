"""Widen: more channels in one channel group (paper §3.4.1; Net2Net, arXiv 1511.05641)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Axis, Param
from morphs.graph.widths import Widths, channel_groups, resized
from morphs.init import fresh
from morphs.move import Context, Made, Move, Options, Origin
from morphs.moves.columns import NEW_UNIT, Index, columns, free_group, in_blocks, spans
from morphs.moves.editing import choices
from morphs.network import Network


@dataclass(frozen=True)
class Widen(Move):
    """Give the channel group that `node` writes `to` channels; everything tied to it follows.

    how="replicate": new channels copy old ones, and the weights that read a channel are split among its copies
    in unequal shares, α and 1 − α, so that the copies get different gradients.
    how="zero": new channels have fresh incoming weights and zero outgoing ones, and are shuffled among the old
    (equation 18). The paper zeroes whichever side is smaller; zero *incoming* weights leave ReLU units dead.
    """

    name: ClassVar[str] = "widen"
    summary: ClassVar[str] = "more channels, in every layer that must have the same number"

    node: str
    to: int
    how: Literal["replicate", "zero"] = "replicate"

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: how, factor (multiples of the width). One node for each group, the fixed ones included."""
        widths = channel_groups(graph)
        free = widths.free()
        for number, group in enumerate(widths.groups):
            node = free.get(number, group.producers[0])
            for factor in choices(options, "factor", (1.5, 2)):
                to = max(round(group.width * factor / group.blocks), group.width // group.blocks + 1)
                for how in choices(options, "how", ("replicate", "zero")):
                    yield cls(node, to * group.blocks, how)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        return resized(graph, self._group(graph), self.to)

    def _group(self, graph: ArchGraph) -> int:
        """Number of the group to widen; IllegalMove when it can't have this width."""
        number = free_group(self, graph, self.node)
        group = channel_groups(graph).groups[number]
        if self.to <= group.width or self.to % group.blocks:
            multiple = f" and divisible by {group.blocks}" if group.blocks > 1 else ""
            raise self.refuse(
                f'{self.to} is no wider width for node "{self.node}"',
                f"give a number above {group.width}{multiple}",
            )
        return number

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Every tensor with an axis that follows the group."""
        widths = channel_groups(parent.graph)
        number = self._group(parent.graph)
        group = widths.groups[number]
        source, shares, kept = self._units(group.width, group.blocks, context.generator)
        made: dict[tuple[str, str], tuple[Tensor, Origin]] = {}
        for (owner, name), param in parent.graph.params.items():
            maps = [columns(parent.graph, widths, owner, axis, number, source) for axis in param.axes]
            if all(index is None for index in maps):
                continue
            origin = [columns(parent.graph, widths, owner, axis, number, kept) for axis in param.axes]
            tensor = Origin((owner, name), tuple(maps)).gather(parent.weights[owner, name])
            shape = graph.params[owner, name].shape
            tensor = self._new_rows(graph[owner], name, shape, param, tensor, maps, context)
            tensor = _split(parent.graph, widths, owner, param, number, shares, source, tensor)
            made[owner, name] = (tensor.contiguous(), Origin((owner, name), tuple(origin)))
        return made

    def _units(self, width: int, blocks: int, generator: torch.Generator) -> tuple[Index, Tensor, Index]:
        """For each child channel: the parent's it copies, its share of the outgoing weights, the parent's it is.

        All three repeat alike in each of `blocks` equal parts. −1 marks a new channel.
        """
        part, grown = width // blocks, self.to // blocks
        kept = np.concatenate([np.arange(part), np.full(grown - part, NEW_UNIT)])
        if self.how == "zero":
            kept = kept[torch.randperm(grown, generator=generator).numpy()]
            return (
                in_blocks(kept, part, blocks),
                torch.ones(self.to, dtype=torch.float64),
                in_blocks(kept, part, blocks),
            )
        rounds = -(-(grown - part) // part)
        copies = torch.cat([torch.randperm(part, generator=generator) for _ in range(rounds)])[: grown - part]
        source = np.concatenate([np.arange(part), copies.numpy()])
        shares = torch.ones(grown, dtype=torch.float64)
        for unit in range(part):
            clones = torch.from_numpy(np.flatnonzero(source == unit))
            shares[clones] = _unequal_shares(len(clones), generator)
        return in_blocks(source, part, blocks), shares.repeat(blocks), in_blocks(kept, part, blocks)

    def _new_rows(
        self, node: Node, name: str, shape: tuple[int, ...], param: Param, tensor: Tensor,
        maps: list[Index | None], context: Context,
    ) -> Tensor:  # fmt: skip
        """Fresh values where a new unit's own parameters are: the rows of an output axis that have no source."""
        if self.how != "zero" or Axis.OUT not in param.axes:
            return tensor
        index = maps[param.axes.index(Axis.OUT)]
        if index is None or not (index < 0).any():
            return tensor
        values = fresh(node, name, shape, context.generator).to(tensor.dtype)
        rows = torch.from_numpy(np.flatnonzero(index < 0))
        tensor = tensor.clone()
        tensor[rows] = values[rows]
        return tensor


def _unequal_shares(count: int, generator: torch.Generator) -> Tensor:
    """`count` positive numbers that sum to one, no two of them equal, in random order; 1/4 and 3/4 of two."""
    if count == 1:
        return torch.ones(1, dtype=torch.float64)
    shares = torch.linspace(0.5, 1.5, count, dtype=torch.float64) / count
    return shares[torch.randperm(count, generator=generator)]


def _split(
    graph: ArchGraph, widths: Widths, owner: str, param: Param, number: int, shares: Tensor, source: Index,
    tensor: Tensor,
) -> Tensor:  # fmt: skip
    """Outgoing weights times their unit's share."""
    for place, axis in enumerate(param.axes):
        if axis is not Axis.IN or columns(graph, widths, owner, axis, number, source) is None:
            continue
        pieces = [
            shares[: len(shares) * width // widths.groups[group].width].repeat_interleave(times)
            if group == number
            else torch.ones(width * times, dtype=torch.float64)
            for group, width, times in spans(graph, widths, owner, axis)
        ]
        ones = [1] * tensor.dim()
        ones[place] = -1
        tensor = (tensor.double() * torch.cat(pieces).reshape(ones)).to(tensor.dtype)
    return tensor
