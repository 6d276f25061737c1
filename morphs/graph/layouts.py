"""Which channels the columns of a tensor are, axis by axis, and which widths an op ties to one another.

Along each of its axes a tensor is a sequence of *pieces* of producers' channels, or None where the axis counts
something else: pixels, tokens. A piece has `times` columns for each `unit` consecutive channels: H·W for each channel
after a flatten, one for each head's channels where an axis counts heads.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import lcm, prod

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Axis, Shape, Trait


@dataclass(frozen=True)
class Piece:
    """Channels [start, start + length) of a producer, `times` columns for each `unit` of them."""

    producer: str
    start: int
    length: int
    times: int = 1
    unit: int = 1

    @property
    def units(self) -> int:
        """How many there are."""
        return self.length // self.unit

    def cut(self, start: int, stop: int) -> "Piece":
        """Units `start` to `stop` − 1 of it."""
        return replace(self, start=self.start + start * self.unit, length=(stop - start) * self.unit)


Layout = tuple[Piece, ...]
Axes = tuple[Layout | None, ...]


def _times(piece: Piece, times: int) -> Piece:
    """`piece` with `times` columns for each unit, which divide it."""
    return replace(piece, times=times, unit=piece.unit * (times // piece.times))


class Ties:
    """The pieces found to be equal, and what else is known of producers, while the graph is traversed.

    pairs: pieces with the same units. fixed: why pieces can't change. blocks: what its width must be a multiple
    of. units: pieces whose channels come in units. even: norms across channels, what they read, in how many parts.
    """

    def __init__(self) -> None:
        self.pairs: list[tuple[Piece, Piece]] = []
        self.fixed: dict[Piece, str] = {}
        self.blocks: dict[str, int] = {}
        self.units: list[Piece] = []
        self.even: list[tuple[str, Layout, int]] = []

    def fix(self, layout: Layout | None, reason: str) -> None:
        """Whatever is in `layout` can't change."""
        for piece in layout or ():
            self.fixed.setdefault(piece, reason)

    def tie(self, a: Layout | None, b: Layout | None, where: str) -> Layout | None:
        """Tie two layouts column by column, cutting pieces where the other's end; the layout of both."""
        if a is None or b is None:
            self.fix(a if b is None else b, f'is as wide as an axis of another kind at node "{where}"')
            return None
        left, right = list(a), list(b)
        while left and right:
            first, second = left.pop(0), right.pop(0)
            times = lcm(first.times, second.times)
            if any(piece.units * piece.times % times for piece in (first, second)):
                reason = f'is tied to flattened columns at node "{where}"'
                self.fix((first, *left), reason)
                self.fix((second, *right), reason)
                break
            first, second = (_times(piece, times) for piece in (first, second))
            units = min(first.units, second.units)
            for piece, rest in ((first, left), (second, right)):
                if piece.units > units:
                    rest.insert(0, piece.cut(units, piece.units))
            self.pairs.append((first.cut(0, units), second.cut(0, units)))
        return a

    def grouped(self, layout: Layout, inner: int, where: str) -> Layout | None:
        """`layout` with one column for each `inner` of its own; None, and fixed, where they don't divide like that."""
        found: list[Piece] = []
        for piece in layout:
            if piece.times % inner == 0:
                found.append(replace(piece, times=piece.times // inner))
            elif inner % piece.times == 0 and piece.units % (inner // piece.times) == 0:
                unit = piece.unit * (inner // piece.times)
                found.append(replace(piece, times=1, unit=unit))
            else:
                self.fix(layout, f'is cut in the middle of its parts at node "{where}"')
                return None
        self.units += [piece for piece in found if piece.unit > 1]
        return tuple(found)


def layouts_of(graph: ArchGraph, ties: Ties) -> dict[str, Axes]:
    """What the columns of each node's output are; `ties` gets all that the nodes tie."""
    layouts: dict[str, Axes] = {}
    for node in graph:
        layouts[node.name] = _write(graph, node, [layouts[i] for i in node.inputs], ties)
    for node in graph:
        if node.owner != node.name:
            _tie_uses(graph, node, layouts, ties)
    return layouts


def main_axes(graph: ArchGraph) -> dict[str, int]:
    """For each node the axis of what it writes that is its width: the one that its layer or the last before it made."""
    found: dict[str, int] = {}
    for node in graph:
        rank, op = len(graph.shape(node.name)), node.op
        before = found[node.inputs[0]] if node.inputs else 0
        match op.trait:
            case Trait.RESHAPE:
                shapes = graph.input_shapes(node.name)[0], graph.shape(node.name)
                kept = next((new[-1] for old, new in matched(*shapes) if before in old and new), rank - 1)
                found[node.name] = kept if op.width_axis is None else op.width_axis % rank
            case Trait.PERMUTE:
                found[node.name] = op.permutation.index(before)
            case Trait.DROP:
                gone = op.fixes(len(graph.input_shapes(node.name)[0]))
                found[node.name] = (
                    max(rank - 1, 0) if before in gone else before - sum(a < before for a in gone)
                )
            case Trait.OPAQUE if op.multiplies and rank > 1 and found[node.inputs[-1]] == rank - 1:
                found[node.name] = rank - 1
            case _:
                own = op.trait in (Trait.ABSORB, Trait.HEADS) or graph.facts(node.name).params
                found[node.name] = op.axis % rank if own and rank else max(min(before, rank - 1), 0)
    return found


def _write(graph: ArchGraph, node: Node, read: list[Axes], ties: Ties) -> Axes:
    """The layouts that `node` writes; records the ties it makes."""
    op, name, shape = node.op, node.name, graph.shape(node.name)
    if op.trait is Trait.SOURCE:
        if not shape:
            return ()
        own = (Piece(name, 0, shape[0]),)
        ties.fix(own, f'has the width of the input "{name}", which is fixed at {shape[0]}')
        return (own, *(None for _ in shape[1:]))
    if op.trait is Trait.SINK:
        for axes, sizes in zip(read, graph.input_shapes(name), strict=True):
            for size, layout in zip(sizes, axes, strict=True):
                ties.fix(layout, f"feeds the output, whose width is fixed at {size}")
        return read[0]
    if op.trait is Trait.OPAQUE:
        if op.carries(graph.input_shapes(name)):
            free = [_unfixed(node, axes, ties) for axes in read]
            return (
                _product(node, free, ties)
                if op.multiplies and len(free) == 2
                else _tie_inputs(graph, node, free, ties)
            )
        for layout in (layout for axes in read for layout in axes):
            ties.fix(layout, f'is fixed by the operator "{name}"')
        return tuple(None for _ in shape)
    if op.trait is Trait.ABSORB:
        return _absorb(graph, node, read, ties)
    if op.trait is Trait.STACK:
        return _stack(node, read, ties)
    if op.trait is Trait.TIE:
        return _tie_inputs(graph, node, read, ties)
    if op.trait in (Trait.FLATTEN, Trait.RESHAPE):
        return _reshape(graph, node, read[0], ties)
    if op.trait is Trait.PERMUTE:
        return tuple(read[0][axis] for axis in op.permutation)
    if op.trait is Trait.HEADS:
        return _heads(graph, node, read, ties)
    if op.trait is Trait.SLICE:
        return _slice(graph, node, read[0], ties)
    kept = list(_unfixed(node, read[0], ties))
    if op.trait is Trait.DROP:
        gone = op.fixes(len(kept))
        return tuple(layout for axis, layout in enumerate(kept) if axis not in gone)
    parts, along = op.evens(graph.input_shapes(name)), kept[op.axis]
    if parts and along is not None:
        ties.even.append((name, along, parts))
    return tuple(kept)


def _unfixed(node: Node, read: Axes, ties: Ties) -> Axes:
    """`read` without the layouts along axes whose length `node` fixes."""
    fixed = node.op.fixes(len(read))
    for axis in fixed:
        ties.fix(read[axis], f'lies along an axis that node "{node.name}" works across')
    return tuple(None if axis in fixed else layout for axis, layout in enumerate(read))


def _absorb(graph: ArchGraph, node: Node, read: list[Axes], ties: Ties) -> Axes:
    op, shape = node.op, graph.shape(node.name)
    width = op.axis % len(shape)
    own: Layout = (Piece(node.name, 0, shape[width]),)
    found: list[Layout | None] = [None for _ in shape]
    if read:
        kept = _unfixed(node, read[0], ties)
        if len(kept) == len(shape):
            found = list(kept)
        if op.groups > 1:
            own = _convolve(graph, node, read[0][width], own, ties)
    found[width] = own
    return tuple(found)


def _convolve(graph: ArchGraph, node: Node, read: Layout | None, own: Layout, ties: Ties) -> Layout:
    """The channels of a convolution with groups."""
    shapes, groups = graph.input_shapes(node.name), node.op.groups
    if read is not None and node.op.depthwise(shapes):
        return _repeat(read, graph.shape(node.name)[0] // shapes[0][0])
    if 0 in node.op.fixes(len(shapes[0])) or read is None:
        ties.fix((*(read or ()), *own), f'is part of the grouped convolution "{node.name}"')
    elif len(read) == 1 and read[0].times == read[0].unit == 1 and read[0].start == 0:
        for producer in (read[0].producer, node.name):
            ties.blocks[producer] = lcm(ties.blocks.get(producer, 1), groups)
    else:
        ties.fix((*read, *own), f'feeds several pieces to the grouped convolution "{node.name}"')
    return own


def _repeat(layout: Layout, times: int) -> Layout:
    return tuple(replace(piece, times=piece.times * times) for piece in layout)


def _all_tied(layouts: Iterable[Layout | None], where: str, ties: Ties) -> Layout | None:
    """The one layout of tensors that are equal along an axis."""
    found = list(layouts)
    for other in found[1:]:
        if found[0] is not other:
            found[0] = ties.tie(found[0], other, where)
    return found[0] if found else None


def _stack(node: Node, read: list[Axes], ties: Ties) -> Axes:
    found: list[Layout | None] = []
    for axis, layouts in enumerate(zip(*read, strict=True)):
        if axis != node.op.axis % len(read[0]):
            found.append(_all_tied(layouts, node.name, ties))
        elif any(layout is None for layout in layouts):
            for layout in layouts:
                ties.fix(layout, f'is followed by an axis of another kind at node "{node.name}"')
            found.append(None)
        else:
            found.append(tuple(piece for layout in layouts for piece in layout or ()))
    return tuple(found)


def _tie_inputs(graph: ArchGraph, node: Node, read: list[Axes], ties: Ties) -> Axes:
    given = [*zip(read, graph.input_shapes(node.name), strict=True)]
    found: list[Layout | None] = []
    for axis, size in enumerate(graph.shape(node.name)):
        whole: list[Layout | None] = []
        for layouts, shape in given:
            if not shape:  # the same for each example and along each width
                continue
            if shape[axis] == size:
                whole.append(layouts[axis])
            else:
                ties.fix(layouts[axis], f'is broadcast over channels at node "{node.name}"')
        found.append(_all_tied(whole, node.name, ties))
    return tuple(found)


def _product(node: Node, read: list[Axes], ties: Ties) -> Axes:
    """Rows of the first and columns of the second; what it sums over is fixed."""
    first, second = read
    for layout in (first[-1], second[-2]):
        ties.fix(layout, f'lies along an axis that node "{node.name}" works across')
    outer = (_all_tied(pair, node.name, ties) for pair in zip(first[:-2], second[:-2], strict=True))
    return (*outer, first[-2], second[-1])


def _heads(graph: ArchGraph, node: Node, read: list[Axes], ties: Ties) -> Axes:
    q, k = graph.input_shapes(node.name)[:2]
    for axes in read[:3]:
        for layout in axes[1:]:
            ties.fix(layout, f'lies along an axis that node "{node.name}" works across')
    for layout in read[3] if len(read) > 3 else ():
        ties.fix(layout, f'is the mask of node "{node.name}"')
    heads = read[0][0]
    grouped = ties.grouped(heads, q[0] // k[0], node.name) if heads is not None else None
    if heads is None or grouped is None:
        for axes in read[1:3]:
            ties.fix(axes[0], f'counts the heads of node "{node.name}", which are fixed')
        return (None, None, None)
    tied = _all_tied((grouped, read[1][0], read[2][0]), node.name, ties)
    return (None if tied is None else heads, None, None)


def _slice(graph: ArchGraph, node: Node, read: Axes, ties: Ties) -> Axes:
    axis = node.op.axis % len(read)
    layout, (start, stop) = read[axis], node.op.places
    if layout is None:
        return read
    part = _columns(layout, start, stop)
    if part is None:
        ties.fix(layout, f'is cut in the middle of its parts at node "{node.name}"')
    return (*read[:axis], part, *read[axis + 1 :])


def _columns(layout: Layout, start: int, stop: int) -> Layout | None:
    """Columns `start` to `stop` − 1; None where that cuts the columns of one unit."""
    found: list[Piece] = []
    place = 0
    for piece in layout:
        size = piece.units * piece.times
        low, high = max(start - place, 0), min(stop - place, size)
        place += size
        if low < high:
            if low % piece.times or high % piece.times:
                return None
            found.append(piece.cut(low // piece.times, high // piece.times))
    return tuple(found)


def matched(before: Shape, after: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of old and new axes that hold the same numbers, of a reshaping."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [*range(i, i + 1)][: len(before) - i], [*range(j, j + 1)][: len(after) - j]
        i, j = i + len(old), j + len(new)
        while prod(before[a] for a in old) != prod(after[a] for a in new):
            if prod(before[a] for a in old) < prod(after[a] for a in new):
                old.append(i)
                i += 1
            else:
                new.append(j)
                j += 1
        yield old, new


def _reshape(graph: ArchGraph, node: Node, read: Axes, ties: Ties) -> Axes:
    before, after = graph.input_shapes(node.name)[0], graph.shape(node.name)
    found: list[Layout | None] = [None for _ in after]
    for old, new in matched(before, after):
        wide = [axis for axis in old if read[axis] is not None]
        if len(long := [axis for axis in wide if before[axis] > 1]) == 1:
            for axis in {*wide} - {*long}:  # it stays alone
                ties.fix(read[axis], f'is one column that node "{node.name}" puts together with others')
            wide = long
        target = _target(node, after, new)
        if len(wide) == 1 and target is not None:
            layout, at = read[wide[0]], old.index(wide[0])
            flat = _repeat(layout or (), prod(before[a] for a in old[at + 1 :])) * prod(
                before[a] for a in old[:at]
            )
            at = new.index(target)
            outer, inner = prod(after[a] for a in new[:at]), prod(after[a] for a in new[at + 1 :])
            found[target] = _split(node, flat, prod(before[a] for a in old), outer, inner, ties)
        else:
            for axis in wide:
                ties.fix(read[axis], f'is reshaped at node "{node.name}"')
    return tuple(found)


def _target(node: Node, after: Shape, new: list[int]) -> int | None:
    """Which of the axes `new` is a width if the ones they come from are."""
    long = [axis for axis in new if after[axis] > 1]
    if node.op.width_axis is not None and node.op.width_axis % len(after) in new:
        return node.op.width_axis % len(after)
    return long[0] if len(long) == 1 else new[-1] if new and not long else None


def _split(node: Node, flat: Layout, size: int, outer: int, inner: int, ties: Ties) -> Layout | None:
    """The middle one of three axes that `flat`, of `size` columns, becomes."""
    step = size // outer
    parts = [_columns(flat, start, start + step) for start in range(0, size, step)]
    first, *others = parts
    if first is None or any(part is None for part in others):
        ties.fix(flat, f'is cut in the middle of its parts at node "{node.name}"')
        return None
    for part in others:
        if part != first:
            ties.tie(first, part, node.name)
    return ties.grouped(first, inner, node.name) if inner > 1 else first


def _tie_uses(graph: ArchGraph, node: Node, layouts: dict[str, Axes], ties: Ties) -> None:
    """Tie what a second use of a module reads and writes to the first, along the axes its parameters have."""
    owner = graph[node.owner]
    theirs = graph.facts(owner.name).params
    tied: set[tuple[Axis, Axis]] = set()
    for name, param in graph.facts(node.name).params.items():
        tied.update(zip(param.axes, theirs[name].axes, strict=True))
    for mine, its in sorted(tied, key=lambda pair: (pair[0].value, pair[1].value), reverse=True):
        one, other = _along(node, mine, layouts), _along(owner, its, layouts)
        if one is not None or other is not None:
            ties.tie(one, other, node.name)


def _along(node: Node, axis: Axis, layouts: dict[str, Axes]) -> Layout | None:
    if axis is Axis.NONE:
        return None
    return layouts[node.name if axis.own else node.inputs[0]][node.op.axis]
