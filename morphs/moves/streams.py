"""New channels under norms across channels, and under tied embeddings (after LEMON, arXiv 2310.07999).

A residual stream of D channels is read by norms whose statistics must stay when it gets D' channels. With every
channel copied equally often they do. With new channels that are zero (RMS norm), or the mean of the others (layer
norm), the mean stays and the variance is D / D' of what it was: ε · D / D' and γ · √(D / D') make the norm what it
was, and what it writes to the new channels is zero. What reads the norm may then have any weights for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from morphs.graph.activations import ACTIVATIONS
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Axis, Param, Role, Trait
from morphs.graph.widths import Widths, channel_groups
from morphs.init import fresh
from morphs.move import Context, Index, Made, Move, Origin
from morphs.moves.columns import ColumnMaps, following
from morphs.network import Key, Network

ZERO, MEAN, ANY = "zero", "mean", "any"  # what a tensor holds in its new channels


def rescaled(move: Move, graph: ArchGraph, number: int, to: int) -> ArchGraph:
    """`graph` with the norms across channel group `number` rescaled for `to` channels, new ones zero or the mean of the
    others. Raises IllegalMove where that can't be."""
    group = channel_groups(graph).groups[number]
    changed: list[Node] = []
    for name in group.even:
        op = graph[name].op.rescaled(group.width / to)
        if op is None:
            fact = f'the norm "{name}" has no form that leaves new channels out'
            raise move.refuse(fact, f"use how=replicate and a multiple of {group.width}")
        changed.append(replace(graph[name], op=op))
    _contents(move, graph, number)
    return graph.update(*changed)


def _contents(move: Move, graph: ArchGraph, number: int) -> dict[str, str]:
    """What each node that writes the group holds in new channels; IllegalMove where a norm would read something else
    than it needs, or a tied reader something."""
    widths = channel_groups(graph)
    group = widths.groups[number]
    wanted = MEAN if any(graph[name].op.centred for name in group.even) else ZERO
    found: dict[str, str] = {}
    for name in widths.writers[number]:
        node, own = graph[name], widths.axes[name][graph[name].op.axis] or ()
        if node.op.trait is not Trait.ABSORB:
            found[name] = _content(graph, node, [found.get(source, ANY) for source in node.inputs], wanted)
        elif number not in {span.group for span in own}:  # it works across another axis
            found[name] = ANY
        elif len(own) > 1 or any(span.times > 1 for span in own):
            raise move.refuse(f'node "{name}" writes several pieces of the stream', "use how=replicate")
        elif wanted == MEAN and node.op.groups > 1:
            fact = f'node "{name}" has groups, and no channel of one group can be the mean of all'
            raise move.refuse(fact, f"use how=replicate and a multiple of {group.width}")
        else:
            found[name] = wanted
    for name in group.even:
        source, op = graph[name].inputs[0], graph[name].op
        along = widths.axes[source][op.axis] or ()
        alike = len(along) == 1 and along[0].times == 1  # else each piece has a mean of its own
        if found[source] != (MEAN if op.centred else ZERO) or (op.centred and not alike):
            fact = f'the norm "{name}" reads "{source}", to which nothing can be added that its statistics ignore'
            raise move.refuse(fact, f"use how=replicate and a multiple of {group.width}")
    for one in tied_readers(graph, number):  # which reads with what the embedding writes
        source = graph[one.reader].inputs[0]
        if found.get(one.owner, ZERO) != ZERO and found.get(source, ANY) != ZERO:
            fact = f'node "{one.reader}" reads "{source}" with the weight of "{one.owner}", which can\'t be zero there'
            raise move.refuse(fact, "untie it, or widen a group without an embedding")
    return found


def _content(graph: ArchGraph, node: Node, read: list[str], wanted: str) -> str:
    op = node.op
    if op.role is Role.WIDTH_NORM:
        return ZERO if read[0] in (ZERO, wanted) else ANY
    if op.role is Role.FACTOR:
        return read[0] if read[0] == ZERO or _factor_of(graph, node.inputs[0]) == node.name else ANY
    if op.role in (Role.SUM, Role.DROPOUT) or op.commutes:
        return read[0] if len(set(read)) == 1 else ANY
    if op.role is Role.PRODUCT:
        return ZERO if ZERO in read else ANY
    if op.trait is Trait.OPAQUE:  # 0 may become anything
        return ANY
    through = op.phi is None or ACTIVATIONS[op.phi].zero_at_zero
    return ZERO if set(read) == {ZERO} and through and not op.is_end else ANY


def _factor_of(graph: ArchGraph, name: str) -> str | None:
    """The node that multiplies what the layer `name` writes, each channel by a number, if nothing else reads that."""
    readers = graph.consumers(name)
    if graph[name].op.trait is not Trait.ABSORB or len(readers) != 1 or graph.is_shared(name):
        return None
    reader = graph[readers[0][0]]
    params = graph.facts(reader.name).params.values()
    return reader.name if reader.op.role is Role.FACTOR and all(param.axes for param in params) else None


def stream_weights(
    move: Move, parent: Network, graph: ArchGraph, number: int, units: Index, context: Context
) -> Made:
    """The tensors of a stream, channel group `number`, with the new channels that `units` marks."""
    before, widths = parent.graph, channel_groups(parent.graph)
    contents = _contents(move, before, number)
    where = ColumnMaps(before, widths, number, units)
    made: dict[Key, tuple[Tensor, Origin]] = {}
    for key, axes in following(before, widths, number):
        maps = tuple(where(key[0], axis) for axis in axes)
        if all(index is None for index in maps):
            continue
        origin = Origin(key, maps)
        tensor = origin.gather(parent.weights[key])
        node = before[key[0]]
        for place, (axis, index) in enumerate(zip(axes, maps, strict=True)):
            if (
                axis is Axis.IN
                and index is not None
                and all(contents.get(before[user].inputs[0]) == ZERO for user in before.users(key[0]))
            ):
                put(tensor, place, index, _drawn(graph.params[key], context.generator))
        for place, (axis, index) in enumerate(zip(axes, maps, strict=True)):
            if axis is Axis.OUT and index is not None:
                _write_rows(parent, node, key, graph.params[key], tensor, place, index, contents)
        made[key] = (tensor, origin)
    ratio = len(units) / int((units >= 0).sum())
    for owner in dict.fromkeys(before[name].owner for name in widths.groups[number].even):
        key = (owner, "weight")
        if key in made:
            tensor, origin = made[key]
            old = torch.from_numpy(np.flatnonzero(_index(origin) >= 0))
            made[key] = (tensor.index_copy(0, old, tensor[old] / sqrt(ratio)), origin)
    return made


def _index(origin: Origin) -> Index:
    index = origin.axes[0]
    assert index is not None
    return index


def _drawn(param: Param, generator: torch.Generator) -> Tensor:
    return fresh(param, param.shape, generator, torch.float64)


def put(tensor: Tensor, place: int, index: Index, values: Tensor) -> None:
    """Write `values`, of the same shape, to where `index` along axis `place` says that `tensor` is new."""
    new = torch.from_numpy(np.flatnonzero(index < 0))
    tensor.index_copy_(place, new, values.index_select(place, new).to(tensor))


def _write_rows(
    parent: Network, node: Node, key: Key, param: Param, tensor: Tensor, place: int, index: Index,
    contents: Mapping[str, str],
) -> None:  # fmt: skip
    """New channels of a parameter that writes them: neutral ones of a norm or factor, else zero or the others' mean."""
    if node.op.trait is not Trait.ABSORB:
        put(tensor, place, index, torch.full(param.shape, param.start or 0.0, dtype=torch.float64))
        return
    mean = torch.zeros((), dtype=torch.float64)
    if contents[node.name] == MEAN:
        old = tensor.index_select(place, torch.from_numpy(np.flatnonzero(index >= 0))).double()
        factor = _factor_of(parent.graph, node.name)
        if factor is not None:
            scale = parent.weights[parent.graph[factor].owner, "weight"].double()
            order = torch.from_numpy(index[index >= 0])
            old = old * scale[order].reshape(-1, *(1 for _ in old.shape[place + 1 :]))
        mean = old.mean(place, keepdim=True)
    put(tensor, place, index, mean.expand(param.shape))


@dataclass(frozen=True)
class Tied:
    """An embedding whose weight a layer uses to read the same channels. before: the norm or factor between, if any."""

    owner: str
    reader: str
    before: str | None


def tied_readers(graph: ArchGraph, number: int) -> tuple[Tied, ...]:
    """Where channel group `number` is read through the weight of an embedding that writes it."""
    widths = channel_groups(graph)
    found: list[Tied] = []
    for name in widths.writers[number]:
        for reader, _ in graph.consumers(name):
            node = graph[reader]
            if node.op.kind != graph[node.owner].op.kind and number in _along(widths, name, node.op.axis):
                found.append(Tied(node.owner, reader, _foldable(graph, widths, number, name)))
    return tuple(dict.fromkeys(found))


def _along(widths: Widths, name: str, axis: int) -> set[int]:
    return {span.group for span in widths.axes[name][axis] or ()}


def _foldable(graph: ArchGraph, widths: Widths, number: int, name: str) -> str | None:
    """`name` where its parameters can be multiplied by each channel's share instead of its readers' weights."""
    node = graph[name]
    params = graph.facts(name).params.values()
    alone = all(graph[r].op.kind != graph[graph[r].owner].op.kind for r, _ in graph.consumers(name))
    fits = (
        node.op.role in (Role.WIDTH_NORM, Role.FACTOR)
        and bool(params)
        and all(param.axes for param in params)
    )
    return name if alone and fits and not graph.is_shared(name) else None
