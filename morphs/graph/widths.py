"""Channel groups: which widths of a graph are one number, computed by one function.

The columns of every tensor are a sequence of *spans*. A span is a piece of a producer's channels, with
`times` consecutive columns for each channel (H·W after a flatten, the multiplier after a depthwise
convolution with one). Producers are the nodes with a width of their own (inputs, convolutions, linear
layers); every other op passes spans on, concatenates them or ties them together:

* add and multiply tie the spans of their inputs piece by piece, cutting where the pieces' ends differ;
* nodes that share parameters tie what they read and what they write;
* a depthwise convolution passes on; a grouped convolution makes its widths divisible by its groups.

Pieces that are tied, directly or not, form one ChannelGroup.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm
from types import MappingProxyType

from networkx.utils import UnionFind

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Axis, Trait


@dataclass(frozen=True)
class ChannelGroup:
    """The nodes whose width is one number.

    producers: the parameter owners that write it, in canonical order. width: its channels.
    blocks: widths must be multiples of it, and channels map alike in each of `blocks` equal parts.
    fixed: why it can't change, or None.
    """

    producers: tuple[str, ...]
    width: int
    blocks: int
    fixed: str | None


@dataclass(frozen=True)
class Span:
    """One whole group inside a tensor, with `times` consecutive columns for each channel."""

    group: int
    times: int


@dataclass(frozen=True)
class Widths:
    """The groups of a graph, and each node's output as a sequence of spans."""

    groups: tuple[ChannelGroup, ...]
    spans: Mapping[str, tuple[Span, ...]]

    @cached_property
    def writers(self) -> Mapping[int, tuple[str, ...]]:
        """For each group, the nodes that write it, whole or as a part of what they write."""
        found: dict[int, list[str]] = {number: [] for number in range(len(self.groups))}
        for name, spans in self.spans.items():
            for number in {span.group for span in spans}:
                found[number].append(name)
        return MappingProxyType({number: tuple(names) for number, names in found.items()})

    def group_of(self, name: str) -> int | None:
        """The group that makes up the whole output of `name`, channel by channel; None where there are several."""
        spans = self.spans[name]
        return spans[0].group if len(spans) == 1 and spans[0].times == 1 else None

    def free(self) -> dict[int, str]:
        """For each group whose width may change: a node that writes exactly this group."""
        whole: dict[int, str] = {}
        for name in self.spans:
            number = self.group_of(name)
            if number is not None and self.groups[number].fixed is None:
                whole.setdefault(number, name)
        return whole

    def columns(self, name: str) -> int:
        """Width of the output of `name`."""
        return sum(self.groups[span.group].width * span.times for span in self.spans[name])


@dataclass(frozen=True)
class _Piece:
    """Channels [start, start + length) of a producer, `times` columns each."""

    producer: str
    start: int
    length: int
    times: int


_Layout = tuple[_Piece, ...]


class _Ties:
    """The pieces found to be equal, and what else is known of producers, while the graph is traversed."""

    def __init__(self) -> None:
        self.pairs: list[tuple[_Piece, _Piece]] = []
        self.fixed: dict[str, str] = {}
        self.blocks: dict[str, int] = {}

    def fix(self, layout: _Layout, reason: str) -> None:
        for piece in layout:
            self.fixed.setdefault(piece.producer, reason)

    def tie(self, a: _Layout, b: _Layout, where: str) -> None:
        """Tie two layouts column by column, cutting pieces where the other's end."""
        left, right = list(a), list(b)
        while left and right:
            first, second = left.pop(0), right.pop(0)
            if first.times != second.times:
                reason = f'is tied to flattened columns at node "{where}"'
                self.fix((first, *left), reason)
                self.fix((second, *right), reason)
                return
            length = min(first.length, second.length)
            for piece, rest in ((first, left), (second, right)):
                if piece.length > length:
                    rest.insert(0, _cut(piece, length, piece.length))
            self.pairs.append((_cut(first, 0, length), _cut(second, 0, length)))


def _cut(piece: _Piece, start: int, stop: int) -> _Piece:
    return replace(piece, start=piece.start + start, length=stop - start)


def channel_groups(graph: ArchGraph) -> Widths:
    """The channel groups of `graph`, in the canonical order of their first producers."""
    return graph.once(_channel_groups)


def _channel_groups(graph: ArchGraph) -> Widths:
    ties = _Ties()
    layouts: dict[str, _Layout] = {}
    for node in graph:
        layouts[node.name] = _write(graph, node, [layouts[i] for i in node.inputs], ties)
    for node in graph:
        if node.owner != node.name:
            _tie_uses(graph, node, layouts, ties)
    return _collect(graph, layouts, ties)


def _tie_uses(graph: ArchGraph, node: Node, layouts: dict[str, _Layout], ties: _Ties) -> None:
    """Tie what a second use of a module reads and writes to the first, along the axes its parameters have."""
    owner = graph[node.owner]
    params = node.op.params(graph.input_shapes(node.name)).values()
    axes = {axis for param in params for axis in param.axes}
    if Axis.OUT in axes:
        ties.tie(layouts[node.name], layouts[owner.name], node.name)
    if Axis.IN in axes:
        ties.tie(layouts[node.inputs[0]], layouts[owner.inputs[0]], node.name)


def _write(graph: ArchGraph, node: Node, read: list[_Layout], ties: _Ties) -> _Layout:
    """The layout that `node` writes; records the ties it makes."""
    op, width = node.op, (graph.shape(node.name) or (1,))[0]
    own = (_Piece(node.name, 0, width, 1),)
    if op.trait is Trait.SOURCE:
        ties.fix(own, f'has the width of the input "{node.name}", which is fixed at {width}')
        return own
    if op.trait is Trait.SINK:
        for layout in read:
            ties.fix(layout, f"feeds the output, whose width is fixed at {width}")
        return read[0]
    if op.trait is Trait.OPAQUE:
        return _opaque(graph, node, read, own, ties)
    if op.trait is Trait.STACK:
        return tuple(piece for layout in read for piece in layout)
    if op.trait is Trait.TIE:
        return _tie_inputs(graph, node, read, ties)
    if op.trait is Trait.FLATTEN:
        return _repeat(read[0], width // graph.shape(node.inputs[0])[0])
    if op.trait is Trait.ABSORB:
        return _convolve(graph, node, read[0], own, ties)
    return read[0]


def _opaque(graph: ArchGraph, node: Node, read: list[_Layout], own: _Layout, ties: _Ties) -> _Layout:
    """What an operator of torch writes: the widths that it reads where it carries them, else one that is fixed."""
    if node.op.carries(graph.input_shapes(node.name)):
        return _tie_inputs(graph, node, read, ties)
    for layout in (*read, own):
        ties.fix(layout, f'is fixed by the operator "{node.name}"')
    return own


def _repeat(layout: _Layout, times: int) -> _Layout:
    return tuple(replace(piece, times=piece.times * times) for piece in layout)


def _tie_inputs(graph: ArchGraph, node: Node, read: list[_Layout], ties: _Ties) -> _Layout:
    width = graph.shape(node.name)[0]
    whole = [
        layout for layout, shape in zip(read, graph.input_shapes(node.name), strict=True) if shape[0] == width
    ]
    for layout in read:
        if layout in whole:
            ties.tie(whole[0], layout, node.name)
        else:
            ties.fix(layout, f'is broadcast over channels at node "{node.name}"')
    return whole[0]


def _convolve(graph: ArchGraph, node: Node, read: _Layout, own: _Layout, ties: _Ties) -> _Layout:
    shapes, groups = graph.input_shapes(node.name), node.op.layer.groups if node.op.layer else 1
    if groups == 1:
        return own
    if node.op.depthwise(shapes):
        return _repeat(read, graph.shape(node.name)[0] // shapes[0][0])
    if len(read) == 1 and read[0].times == 1 and read[0].start == 0:
        for producer in (read[0].producer, node.name):
            ties.blocks[producer] = lcm(ties.blocks.get(producer, 1), groups)
    else:
        ties.fix((*read, *own), f'feeds several pieces to the grouped convolution "{node.name}"')
    return own


def _collect(graph: ArchGraph, layouts: dict[str, _Layout], ties: _Ties) -> Widths:
    """Cut producers where any tie cuts them, join tied parts, and number the groups."""
    cuts = _cuts(layouts, ties)
    tied: UnionFind[tuple[str, int]] = UnionFind()
    for a, b in ties.pairs:
        for one, other in zip(_parts(a, cuts), _parts(b, cuts), strict=True):
            tied.union(one, other)

    numbers: dict[tuple[str, int], int] = {}
    members: list[list[tuple[str, int]]] = []
    for producer, ends in cuts.items():
        for start in ends[:-1]:
            root = tied[producer, start]
            if root not in numbers:
                numbers[root] = len(members)
                members.append([])
            members[numbers[root]].append((producer, start))
    spans = {
        name: tuple(
            Span(numbers[tied[part]], piece.times) for piece in layout for part in _parts(piece, cuts)
        )
        for name, layout in layouts.items()
    }
    groups = tuple(_group(graph, parts, cuts, ties) for parts in members)
    return Widths(groups, MappingProxyType(spans))


def _cuts(layouts: dict[str, _Layout], ties: _Ties) -> dict[str, list[int]]:
    """Where each producer's channels are cut, ends included; a cut on one side of a tie cuts the other too."""
    cuts: dict[str, set[int]] = {}
    for layout in layouts.values():
        for piece in layout:
            cuts.setdefault(piece.producer, set()).update((piece.start, piece.start + piece.length))
    for piece in (piece for pair in ties.pairs for piece in pair):
        cuts[piece.producer].update((piece.start, piece.start + piece.length))
    changed = True
    while changed:
        changed = False
        for a, b in (*ties.pairs, *((b, a) for a, b in ties.pairs)):
            moved = {c - a.start + b.start for c in cuts[a.producer] if a.start < c < a.start + a.length}
            changed |= not moved <= cuts[b.producer]
            cuts[b.producer] |= moved
    return {producer: sorted(places) for producer, places in cuts.items()}


def _parts(piece: _Piece, cuts: dict[str, list[int]]) -> list[tuple[str, int]]:
    """The uncut parts, (producer, start), that make up `piece`."""
    stop = piece.start + piece.length
    return [(piece.producer, c) for c in cuts[piece.producer] if piece.start <= c < stop]


def _group(
    graph: ArchGraph, parts: list[tuple[str, int]], cuts: dict[str, list[int]], ties: _Ties
) -> ChannelGroup:
    producer, start = parts[0]
    ends = cuts[producer]
    width = ends[ends.index(start) + 1] - start
    owners = list(dict.fromkeys(graph[name].owner for name, _ in parts))
    reason = next((ties.fixed[name] for name, _ in parts if name in ties.fixed), None)
    blocks = 1
    for name, _ in parts:
        blocks = lcm(blocks, ties.blocks.get(name, 1))
        if name in ties.blocks and len(cuts[name]) > 2:
            reason = reason or f'is part of the grouped convolution "{name}"'
    if reason is None and len(parts) != len({name for name, _ in parts}):
        reason = "ties two parts of one layer to each other"
    return ChannelGroup(tuple(owners), width, blocks, reason)


def resized(graph: ArchGraph, group: int, to: int) -> ArchGraph:
    """`graph` with the width of channel group number `group` set to `to`; weights are not looked at."""
    widths = channel_groups(graph)
    groups = list(widths.groups)
    groups[group] = replace(groups[group], width=to)
    after = replace(widths, groups=tuple(groups))
    changed: list[Node] = []
    for node in map(graph.__getitem__, widths.writers[group]):
        if node.op.layer is not None:
            shapes = graph.input_shapes(node.name)
            op = node.op.resized(shapes, after.columns(node.inputs[0]), after.columns(node.name))
            changed.append(replace(node, op=op))
    return graph.update(*changed)
