"""Channel groups: which widths of a graph are one number, computed by one function.

Along each of its axes a tensor's columns are a sequence of *spans*, or the axis is no width. A span is a whole group,
with `times` consecutive columns for each of its channels (H·W after a flatten, the multiplier after a depthwise
convolution with one). Producers are the nodes with a width of their own (inputs, convolutions, linear layers,
embeddings); every other op passes spans on, concatenates them or ties them together (see `layouts`):

* add and multiply tie the spans of their inputs piece by piece, cutting where the pieces' ends differ;
* nodes that share parameters tie what they read and what they write;
* a depthwise convolution passes on; a grouped convolution makes its widths divisible by its groups;
* attention ties the heads of its inputs: its group has one channel for each head, or for each head of the keys where
  several of the queries' share one, and a projection has all of a head's columns for it.

Pieces that are tied, directly or not, form one ChannelGroup.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm
from types import MappingProxyType

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.layouts import Axes, Layout, Piece, Ties, layouts_of, main_axes
from morphs.graph.ops import Op, Resized, Shape

Part = tuple[str, int]  # uncut channels of a producer, from where on


@dataclass(frozen=True)
class ChannelGroup:
    """The nodes whose width is one number.

    producers: the parameter owners that write it, in canonical order. width: its channels.
    blocks: widths must be multiples of it, and channels map alike in each of `blocks` equal parts.
    fixed: why it can't change, or None. even: the norms across its channels, whose statistics stay where each channel
    is copied equally often.
    """

    producers: tuple[str, ...]
    width: int
    blocks: int
    fixed: str | None
    even: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """One whole group inside a tensor, with `times` consecutive columns for each channel."""

    group: int
    times: int


Spans = tuple[Span, ...]


@dataclass(frozen=True)
class Widths:
    """The groups of a graph, and for each node's output the spans along each axis, None along one that is no width.

    main: the axis that is the width of what a node writes.
    """

    groups: tuple[ChannelGroup, ...]
    axes: Mapping[str, tuple[Spans | None, ...]]
    main: Mapping[str, int]

    @cached_property
    def spans(self) -> Mapping[str, Spans]:
        """Each node's output as a sequence of spans along its main axis."""
        return MappingProxyType(
            {name: axes[self.main[name]] or () if axes else () for name, axes in self.axes.items()}
        )

    @cached_property
    def times(self) -> Mapping[int, Mapping[str, tuple[int, ...]]]:
        """For each group, the nodes that write it, whole or as a part of what they write, and along each axis of that
        the columns for one of the group's channels."""
        found: dict[int, dict[str, list[int]]] = {number: {} for number in range(len(self.groups))}
        for name, axes in self.axes.items():
            for place, spans in enumerate(axes):
                for span in spans or ():
                    found[span.group].setdefault(name, [0] * len(axes))[place] += span.times
        return MappingProxyType(
            {number: {name: tuple(times) for name, times in names.items()} for number, names in found.items()}
        )

    @cached_property
    def writers(self) -> Mapping[int, tuple[str, ...]]:
        """For each group, the nodes that write it, whole or as a part of what they write."""
        return MappingProxyType({number: tuple(names) for number, names in self.times.items()})

    def group_of(self, name: str) -> int | None:
        """The group that makes up the whole output of `name`, channel by channel; None where there are several."""
        spans = self.spans[name]
        return spans[0].group if len(spans) == 1 and spans[0].times == 1 else None

    def free(self) -> dict[int, str]:
        """For each group whose width may change: a node that writes exactly this group, if any does with one column for
        each channel."""
        whole: dict[int, str] = {}
        several: dict[int, str] = {}
        for name, spans in self.spans.items():
            if len(spans) == 1 and self.groups[spans[0].group].fixed is None:
                (whole if spans[0].times == 1 else several).setdefault(spans[0].group, name)
        return {**whole, **{number: name for number, name in several.items() if number not in whole}}

    def with_width(self, group: int, width: int) -> "Widths":
        """The same with another width of group number `group`; the rest is not worked out again."""
        groups = [*self.groups[:group], replace(self.groups[group], width=width), *self.groups[group + 1 :]]
        after = replace(self, groups=tuple(groups))
        after.__dict__.update(spans=self.spans, times=self.times)
        return after

    def columns(self, spans: Spans) -> int:
        """How many columns there are."""
        return sum(self.groups[span.group].width * span.times for span in spans)


def channel_groups(graph: ArchGraph) -> Widths:
    """The channel groups of `graph`, in the canonical order of their first producers."""
    return graph.once(_channel_groups)


def _channel_groups(graph: ArchGraph) -> Widths:
    ties = Ties()
    return _collect(graph, layouts_of(graph, ties), ties)


def _collect(graph: ArchGraph, layouts: Mapping[str, Axes], ties: Ties) -> Widths:
    """Cut producers where any tie cuts them, join tied parts, and number the groups."""
    cuts, members = _joined(layouts, ties)
    numbers = {part: number for number, sizes in enumerate(members) for part in sizes}
    sizes = {part: size for sizes in members for part, size in sizes.items()}

    def spans(layout: Layout) -> Spans:
        return tuple(
            Span(numbers[part], sizes[part] // piece.unit * piece.times)
            for piece in layout
            for part in _parts(piece, cuts)
        )

    known: dict[Layout, Spans] = {}
    axes: dict[str, tuple[Spans | None, ...]] = {}
    for name, along in layouts.items():
        for layout in along:
            if layout is not None and layout not in known:
                known[layout] = spans(layout)
        axes[name] = tuple(None if layout is None else known[layout] for layout in along)
    even: dict[int, list[str]] = {}
    for name, layout, parts in ties.even:
        one = {span.group for span in spans(layout)}
        whole = len(layout) == 1 and layout[0].start == 0 and layout[0].times == layout[0].unit == 1
        if len(one) > 1 or (parts > 1 and not whole):
            ties.fix(layout, f'is normalised together with other channels at node "{name}"')
        elif parts > 1:
            producer = layout[0].producer
            ties.blocks[producer] = lcm(ties.blocks.get(producer, 1), parts)
        for number in one:
            even.setdefault(number, []).append(name)
    reasons = _reasons(ties)
    groups = tuple(
        _group(graph, parts, cuts, ties, reasons, tuple(even.get(number, ())))
        for number, parts in enumerate(members)
    )
    return Widths(groups, MappingProxyType(axes), MappingProxyType(main_axes(graph)))


def _joined(layouts: Mapping[str, Axes], ties: Ties) -> tuple[dict[str, list[int]], list[dict[Part, int]]]:
    """The cuts, and the parts of each group: what is normalised together grows by one factor, so that it is one."""
    while True:
        cuts = _cuts(layouts, ties)
        members = _members(cuts, ties)
        pairs = len(ties.pairs)
        for _, layout, count in ties.even:
            if count == 1:
                _tie_in_proportion(
                    [part for piece in layout for part in _parts(piece, cuts)], members, cuts, ties
                )
        if len(ties.pairs) == pairs:
            return cuts, members


def _tie_in_proportion(
    parts: list[Part], members: list[dict[Part, int]], cuts: Mapping[str, list[int]], ties: Ties
) -> None:
    """Tie the groups that `parts` belong to, so that their widths keep their ratios."""
    pieces: list[Piece] = []
    for sizes in members:
        part = next((part for part in parts if part in sizes), None)
        if part is not None:
            pieces.append(replace(_whole(part, cuts)[0], unit=sizes[part]))
    common = gcd(*(piece.units for piece in pieces))
    pieces = [replace(piece, unit=piece.unit * (piece.units // common)) for piece in pieces]
    ties.pairs += [(pieces[0], piece) for piece in pieces[1:]]


def _cuts(layouts: Mapping[str, Axes], ties: Ties) -> dict[str, list[int]]:
    """Where each producer's channels are cut, ends included; a cut on one side of a tie cuts the other too."""
    cuts: dict[str, set[int]] = {}
    for piece in (piece for axes in layouts.values() for layout in axes for piece in layout or ()):
        cuts.setdefault(piece.producer, set()).update((piece.start, piece.start + piece.length))
    for piece in (*(piece for pair in ties.pairs for piece in pair), *ties.fixed):
        cuts[piece.producer].update((piece.start, piece.start + piece.length))
    changed = True
    while changed:
        changed = False
        for a, b in (*ties.pairs, *((b, a) for a, b in ties.pairs)):
            inside = {c - a.start for c in cuts[a.producer] if a.start < c < a.start + a.length}
            if any(offset % a.unit for offset in inside):
                ties.fix((a, b), "is cut in the middle of a head")
            moved = {offset // a.unit * b.unit + b.start for offset in inside if offset % a.unit == 0}
            changed |= not moved <= cuts[b.producer]
            cuts[b.producer] |= moved
    return {producer: sorted(places) for producer, places in cuts.items()}


def _parts(piece: Piece, cuts: dict[str, list[int]]) -> list[Part]:
    """The uncut parts, (producer, start), that make up `piece`."""
    stop = piece.start + piece.length
    return [(piece.producer, c) for c in cuts[piece.producer] if piece.start <= c < stop]


def _whole(part: Part, cuts: Mapping[str, list[int]]) -> Layout:
    """An uncut part as a piece."""
    producer, start = part
    ends = cuts[producer]
    return (Piece(producer, start, ends[ends.index(start) + 1] - start),)


def _reasons(ties: Ties) -> dict[str, list[tuple[Piece, str]]]:
    """The pieces of each producer that can't change, and why."""
    found: dict[str, list[tuple[Piece, str]]] = {}
    for piece, reason in ties.fixed.items():
        found.setdefault(piece.producer, []).append((piece, reason))
    return found


def _members(cuts: dict[str, list[int]], ties: Ties) -> list[dict[Part, int]]:
    """The parts of each group, with the channels that each has for one of the group's."""
    near: dict[Part, list[tuple[Part, Fraction | int]]] = {}
    for a, b in ties.pairs:
        ratio = 1 if a.unit == b.unit else Fraction(b.unit, a.unit)
        parts = _parts(a, cuts), _parts(b, cuts)
        for one, other in zip(*parts, strict=len(parts[0]) == len(parts[1])):
            near.setdefault(one, []).append((other, ratio))
            near.setdefault(other, []).append((one, 1 / ratio if ratio != 1 else 1))
    units: dict[Part, int] = {}
    for piece in ties.units:
        for part in _parts(piece, cuts):
            units[part] = lcm(units.get(part, 1), piece.unit)
    order = {producer: place for place, producer in enumerate(cuts)}
    found: list[dict[Part, int]] = []
    seen: set[Part] = set()
    for producer, ends in cuts.items():
        for start in ends[:-1]:
            if (producer, start) not in seen:
                found.append(_component((producer, start), near, units, cuts, order, ties))
                seen.update(found[-1])
    return found


def _component(
    first: Part, near: Mapping[Part, list[tuple[Part, Fraction | int]]], units: Mapping[Part, int],
    cuts: dict[str, list[int]], order: Mapping[str, int], ties: Ties,
) -> dict[Part, int]:  # fmt: skip
    """The parts tied to `first`, each with its channels for one channel of the group."""
    weights: dict[Part, Fraction | int] = {first: 1}
    stack = [first]
    while stack:
        part = stack.pop()
        for other, ratio in near.get(part, ()):
            if other not in weights:
                weights[other] = weights[part] * ratio
                stack.append(other)
            elif weights[other] != weights[part] * ratio:
                ties.fix(_whole(part, cuts), "is tied to heads of another size")
    common = 1
    for part, weight in weights.items():
        common = lcm(
            common, (Fraction(weight) / units.get(part, 1)).denominator, Fraction(weight).denominator
        )
    sizes = {part: int(weight * common) for part, weight in weights.items()}
    for part, size in sizes.items():
        (piece,) = _whole(part, cuts)
        if piece.length % size:
            ties.fix((piece,), "is cut in the middle of a head")
            return dict.fromkeys(sizes, 1)
    # the order of the producers, not of the search
    return {part: sizes[part] for part in sorted(sizes, key=lambda part: (order[part[0]], part[1]))}


def _owner(graph: ArchGraph, name: str) -> str:
    """The owner of the parameters by which `name` writes its width; itself where it reads by those of another op."""
    owner = graph[graph[name].owner]
    return owner.name if owner.op.kind == graph[name].op.kind else name


def _group(
    graph: ArchGraph, parts: Mapping[Part, int], cuts: dict[str, list[int]], ties: Ties,
    reasons: Mapping[str, list[tuple[Piece, str]]], even: tuple[str, ...],
) -> ChannelGroup:  # fmt: skip
    first, size = next(iter(parts.items()))
    width = _whole(first, cuts)[0].length // size
    owners = list(dict.fromkeys(_owner(graph, name) for name, _ in parts))
    reason = next(
        (
            why
            for name, start in parts
            for piece, why in reasons.get(name, ())
            if piece.start <= start < piece.start + piece.length
        ),
        None,
    )
    blocks = 1
    for (name, _), times in parts.items():
        blocks = lcm(blocks, ties.blocks.get(name, 1))
        if name in ties.blocks and (len(cuts[name]) > 2 or times > 1):
            reason = reason or f'is part of the grouped convolution "{name}"'
    return ChannelGroup(tuple(owners), width, blocks, reason, even)


def resized(graph: ArchGraph, group: int, to: int) -> ArchGraph:
    """`graph` with the width of channel group number `group` set to `to`; weights are not looked at."""
    widths = channel_groups(graph)
    after = widths.with_width(group, to)
    times, more = widths.times[group], to - widths.groups[group].width

    def grown(name: str, shape: Shape) -> Shape:
        own = times.get(name)
        return shape if own is None else tuple(n + more * t for n, t in zip(shape, own, strict=True))

    changed: list[Node] = []
    readers = (reader for writer in times for reader, _ in graph.consumers(writer))
    for name in dict.fromkeys((*times, *readers)):
        node = graph[name]
        if type(node.op).resized is Op.resized:  # it holds no sizes
            continue
        shapes = graph.input_shapes(name)
        reads = tuple(map(grown, node.inputs, shapes))
        column = _Column(widths, after, node)
        op = node.op.resized(shapes, Resized(reads, grown(name, graph.shape(name)), column))
        if op is not node.op:
            changed.append(replace(node, op=op))
    child = graph.update(*changed)
    if (
        more > 0
    ):  # a layer with fewer channels may be another: with one channel for each group it is depthwise
        child.seed(_channel_groups, after)
    return child


@dataclass(frozen=True)
class _Column:
    """Of a place along the axis of what `node` reads, where spans begin or end, the place it has after."""

    before: Widths
    after: Widths
    node: Node

    def __call__(self, place: int) -> int:
        old = new = 0
        for span in self.before.axes[self.node.inputs[0]][self.node.op.axis] or ():
            if old >= place:
                break
            old += self.before.columns((span,))
            new += self.after.columns((span,))
        return place + new - old
