"""Widen: more channels in one channel group (paper §3.4.1; Net2Net, arXiv 1511.05641; GradMax, 2201.05125)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.errors import NeedsData
from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis, Param
from morphs.graph.widths import ChannelGroup, Widths, channel_groups, resized
from morphs.init import fresh
from morphs.move import Context, Index, Made, Move, Options, Origin
from morphs.moves.columns import NEW_UNIT, ColumnMaps, depthwise, following, free_group, in_blocks, spans
from morphs.moves.editing import chosen
from morphs.moves.fresh_units import with_fresh_units
from morphs.moves.rows import centred, normed, with_lengths
from morphs.moves.steepest import steepest_rows
from morphs.moves.streams import rescaled, stream_weights, tied_readers
from morphs.network import Network
from morphs.typed import Positive

How = Literal["replicate", "zero", "gradient", "paired"]
Share = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Widen(Move):
    """Give the channel group that `node` writes `to` channels; everything tied to it follows.

    how="replicate": new channels copy old ones, and the weights that read a channel are split among its copies
    in unequal shares, α and 1 − α, so that the copies get different gradients.
    how="zero": new channels have fresh incoming weights and zero outgoing ones, and the channels are rotated by a
    random number of places (equation 18, with a rotation for its permutation). The paper zeroes
    whichever side is smaller; zero *incoming* weights leave ReLU units dead.
    Under a norm across channels (layer, RMS or group norm) each channel must be copied equally often, so that `to` is
    a multiple of the width. With how="zero" under layer and RMS norms, it is the incoming side that is zero, or the
    mean of the other channels; see `streams`.
    how="gradient": as zero, but the incoming weights of the new channels are those for which the outgoing ones
    get the largest gradient on the given batches, in train mode without dropout (GradMax; see `steepest`). They are
    as large as the others of their layer; biases start at zero. At most 512 examples are looked at, in at most
    42 forward and 63 backward passes.
    how="paired": new channels come in pairs of equal incoming weights, whose outgoing weights are Z and −Z, so that
    they cancel at full scale. Their gradients have opposite signs, which parts them at the first step. All these
    weights are as large as the others of their layer, biases and norms as in a fresh network.
    """

    name: ClassVar[str] = "widen"
    summary: ClassVar[str] = "more channels, in every layer that must have the same number"
    choices: ClassVar[Choices] = {"how": ..., "factor": Positive}

    node: str
    to: int
    how: How = "replicate"

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: how (gradient, which needs data, only where asked for), factor (multiples of the width). One node
        for each group, the fixed ones included.
        """
        widths = channel_groups(graph)
        free = widths.free()
        for number, group in enumerate(widths.groups):
            node = free.get(number, group.producers[0])
            for factor in chosen(options, "factor", (1.5, 2)):
                for how in chosen(options, "how", ("replicate", "zero")):
                    yield cls(node, wider(group, factor, how), how)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        number = self._group(graph)
        group = channel_groups(graph).groups[number]
        wider = resized(graph, number, self.to)
        if self.how == "zero" and group.even:
            changed = rescaled(self, graph, number, self.to)
            return wider.update(*(replace(wider[name], op=changed[name].op) for name in group.even))
        return wider

    def _group(self, graph: ArchGraph) -> int:
        """Number of the group to widen; IllegalMove when it can't have this width."""
        number = free_group(self, graph, self.node)
        group = channel_groups(graph).groups[number]
        if self.to <= group.width or self.to % group.blocks:
            multiple = f" and divisible by {group.blocks}" if group.blocks > 1 else ""
            raise self.refuse(
                f'{self.to} is not a wider width for node "{self.node}"',
                f"give a number above {group.width}{multiple}",
            )
        if group.even and self.how != "zero" and (self.how != "replicate" or self.to % group.width):
            fact = f'node "{self.node}" is normalised across channels at node "{group.even[0]}"'
            raise self.refuse(fact, f"use how=zero, or how=replicate and a multiple of {group.width}")
        computed = next((owner for owner, _ in normed(graph, number)), None)
        if computed is not None and (self.how == "gradient" or (group.even and self.how == "zero")):
            raise self.refuse(f'node "{computed}" computes its weight', "use how=replicate")
        again = next((name for name in channel_groups(graph).writers[number] if graph[name].op.recurs), None)
        if again is not None and group.even and self.how == "zero":
            raise self.refuse(f'node "{again}" reads what it writes', "use how=replicate")
        tied = tied_readers(graph, number)
        if self.how == "paired" and tied:
            raise self.refuse(f'node "{self.node}" has tied weights', "use how=zero or replicate")
        if self.how == "gradient" and (tied or not rows_first(graph, number)):
            raise self.refuse(
                f'node "{self.node}" has tied or transposed weights', "use how=zero or replicate"
            )
        if self.how == "replicate" and any(one.before is None for one in tied):
            fact = f'node "{tied[0].reader}" reads the embedding "{tied[0].owner}" without a norm of its own before it'
            raise self.refuse(fact, "use how=zero")
        if self.how == "paired" and (self.to - group.width) // group.blocks % 2:
            each = f" in each of {group.blocks} parts" if group.blocks > 1 else ""
            raise self.refuse(
                f'{self.to} for node "{self.node}" is an odd number of new channels{each}, which has no pairs',
                f"give {self.to + group.blocks}",
            )
        return number

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Every tensor with an axis that follows the group."""
        number, widths = self._group(parent.graph), channel_groups(parent.graph)
        group = widths.groups[number]
        source, shares, kept = self._units(group.width, group.blocks, context.generator)
        parent = centred(parent, number)
        if self.how == "zero" and group.even:
            return stream_weights(self, parent, graph, number, kept, context)
        origin = ColumnMaps(parent.graph, widths, number, kept)
        base = self._with_halves(parent, number, context) if self.how == "paired" else parent
        before, widths = base.graph, channel_groups(base.graph)
        tied = tied_readers(before, number)
        folded = {before[one.before].owner for one in tied if one.before is not None}
        copied = ColumnMaps(before, widths, number, source)
        made: dict[tuple[str, str], tuple[Tensor, Origin]] = {}
        for (owner, name), axes in following(before, widths, number):
            maps = [copied(owner, axis) for axis in axes]
            if all(index is None for index in maps):
                continue
            tensor = Origin((owner, name), tuple(maps)).gather(base.weights[owner, name])
            if self.how in ("replicate", "paired"):
                across = Axis.OUT if owner in folded else Axis.AGAIN if Axis.AGAIN in axes else Axis.IN
                _split(before, widths, owner, axes, number, shares, tensor, across)
                maps = [origin(owner, axis) for axis in axes]
            elif (rows := {Axis.OUT, Axis.GATES} & {*axes}) and all(owner != one.owner for one in tied):
                place = axes.index(rows.pop())
                _renew(graph.params[owner, name], tensor, place, maps[place], context.generator)
            made[owner, name] = (tensor, Origin((owner, name), tuple(maps)))
        if self.how == "gradient":
            self._steepen(
                parent.derived(graph, {key: tensor for key, (tensor, _) in made.items()}), made, context
            )
        return with_lengths(parent, made, copied if self.how == "replicate" else origin)

    def _with_halves(self, parent: Network, number: int, context: Context) -> Network:
        """`parent` with one unit of each new pair, its outgoing weights as they will be."""
        group = channel_groups(parent.graph).groups[number]
        part, count = group.width // group.blocks, (self.to - group.width) // (2 * group.blocks)
        units = in_blocks(np.concatenate([np.arange(part), np.full(count, NEW_UNIT)]), part, group.blocks)
        graph = resized(parent.graph, number, len(units))
        return with_fresh_units(parent, graph, number, units, context.generator)

    def _steepen(self, child: Network, made: Made, context: Context) -> None:
        """Write into `made` the incoming weights that give the outgoing ones of new channels the largest gradient."""
        try:
            rows = steepest_rows(child, made, context)
        except NeedsData as error:
            raise NeedsData(f'{self.name}: node "{self.node}": {error}') from None
        except RuntimeError as error:  # of an operator without a second derivative
            fact = (
                f'the gradient of node "{self.node}" can\'t be differentiated ({str(error).splitlines()[0]})'
            )
            raise self.refuse(fact, "give how=zero") from None
        if not rows:
            fact = f'on these batches the loss has no gradient for new channels of node "{self.node}"'
            raise self.refuse(fact, "give more examples, or how=zero")
        for key, values in rows.items():
            tensor, origin = made[key]
            new = origin.axes[0]
            assert new is not None
            tensor[torch.from_numpy(np.flatnonzero(new < 0))] = values.to(tensor)

    def _units(self, width: int, blocks: int, generator: torch.Generator) -> tuple[Index, Share, Index]:
        """For each child channel: the parent's it copies, its share of the outgoing weights, the parent's it is.

        All three repeat alike in each of `blocks` equal parts. −1 marks a new channel.
        """
        part, grown = width // blocks, self.to // blocks
        kept = np.concatenate([np.arange(part), np.full(grown - part, NEW_UNIT)])
        if self.how == "paired":  # of a parent that has one of each pair
            once = (part + grown) // 2
            source = np.concatenate([np.arange(once), np.arange(part, once)])
            shares = np.concatenate([np.ones(once), np.full(once - part, -1.0)])
            return in_blocks(source, once, blocks), np.tile(shares, blocks), in_blocks(kept, part, blocks)
        if self.how != "replicate":
            kept = np.roll(kept, int(torch.randint(grown, (1,), generator=generator)))
            units = in_blocks(kept, part, blocks)
            return units, np.ones(self.to), units
        rounds = -(-(grown - part) // part)
        copies = torch.cat([torch.randperm(part, generator=generator) for _ in range(rounds)])[: grown - part]
        source = np.concatenate([np.arange(part), copies.numpy()])
        shares = np.tile(split_shares(source, generator), blocks)
        return in_blocks(source, part, blocks), shares, in_blocks(kept, part, blocks)


def wider(group: ChannelGroup, factor: float, how: str) -> int:
    """The width nearest to `factor` times that of `group` that a widening of this kind can reach; at least one more."""
    if group.even and how == "replicate":
        return group.width * max(2, ceil(factor))
    part = group.width // group.blocks
    to = max(round(group.width * factor / group.blocks), part + 1)
    odd = how == "paired" and (to - part) % 2
    return (to + odd) * group.blocks


def _renew(param: Param, tensor: Tensor, place: int, index: Index | None, generator: torch.Generator) -> None:
    """Write fresh values where a new unit's own parameters are: what has no source along axis `place` of `tensor`."""
    rows = np.flatnonzero(index < 0) if index is not None else ()
    if len(rows):
        shape = (*tensor.shape[:place], len(rows), *tensor.shape[place + 1 :])
        exact = torch.promote_types(tensor.dtype, torch.float32)  # 16 bits are too few to draw in
        tensor.index_copy_(place, torch.from_numpy(rows), fresh(param, shape, generator, exact).to(tensor))


def rows_first(graph: ArchGraph, number: int) -> bool:
    """Whether all weights of the channel group have rows for what they write and columns for what they read."""
    places = {Axis.OUT: 0, Axis.IN: 1}  # recurrent layers have others
    return all(
        place == (place if axis is Axis.NONE else places.get(axis))
        for _, axes in following(graph, channel_groups(graph), number)
        for place, axis in enumerate(axes)
    )


def split_shares(source: Index, generator: torch.Generator) -> Share:
    """For each copy of a unit (`source` says of which) its share of the unit's outgoing weights.

    Those of one unit are positive, sum to one and differ: 0.5/n to 1.5/n in equal steps, in random order.
    """
    chance = torch.rand(len(source), generator=generator, dtype=torch.float64).numpy()
    order = np.lexsort((chance, source))  # unit by unit
    counts = np.bincount(source)
    count = counts[source[order]]
    place = np.arange(len(source)) - (np.cumsum(counts) - counts)[source[order]]
    shares = np.ones(len(source))
    shares[order] = np.where(count > 1, (0.5 + place / np.maximum(count - 1, 1)) / count, 1)
    return shares


def _split(
    graph: ArchGraph, widths: Widths, owner: str, axes: tuple[Axis, ...], number: int, shares: Share, tensor: Tensor,
    across: Axis,
) -> None:  # fmt: skip
    """Multiply outgoing weights, or what is `across` instead of them, by their unit's share, in place."""
    if across not in axes:
        return
    along = spans(graph, widths, owner, across)
    if depthwise(graph, owner) or all(group != number for group, _, _ in along):
        return
    pieces = [
        np.repeat(shares[: len(shares) * width // widths.groups[group].width], times)
        if group == number
        else np.ones(width * times)
        for group, width, times in along
    ]
    exact = torch.promote_types(tensor.dtype, torch.float32)
    columns = np.concatenate(pieces)
    if axes.index(across) == 0:
        tensor.mul_(
            torch.from_numpy(columns).to(tensor.device, exact).reshape(-1, *(1 for _ in tensor.shape[1:]))
        )
        return
    rows = tensor.view(len(tensor), -1)  # long rows are multiplied faster than many small kernels
    rows.mul_(torch.from_numpy(columns.repeat(rows.shape[1] // len(columns))).to(tensor.device, exact))
