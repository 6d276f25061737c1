"""What no call of a trace shows: which of an axis's parts counts heads, which axis of a parameter is its width, and how
many numbers an input of whole numbers knows."""

from collections.abc import Collection
from dataclasses import replace
from math import prod

from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.layouts import main_axes, matched
from morphs.graph.node import Node


def with_roles(graph: ArchGraph) -> ArchGraph:
    """`graph` with what its ops can be told by what reads them."""
    heads = _Counted(graph)
    for node in graph:
        if node.op.trait is ops.Trait.HEADS:
            for source in node.inputs[:3]:
                heads.count(source, 0)
        elif isinstance(node.op, ops.Aten) and node.op.stem == "matmul" and len(graph.shape(node.name)) > 2:
            for source in node.inputs:
                heads.count(source, len(graph.shape(node.name)) - 3)
    counted = heads.found
    graph = _with_parts_apart(graph.update(*counted.values()) if counted else graph, counted.keys())
    main, changed = main_axes(graph), list[Node]()
    for node in graph:
        if isinstance(node.op, ops.Parameter) and len(node.op.size) > 1:
            axis = _width(graph, node, main)
            if axis is not None:
                changed.append(replace(node, op=replace(node.op, axis=axis - len(node.op.size))))
        elif isinstance(node.op, ops.Input) and node.op.tokens is None:
            readers = [graph[name].op for name, _ in graph.consumers(node.name)]
            counts = [op.count for op in readers if isinstance(op, ops.Embedding)]
            if counts:
                changed.append(replace(node, op=replace(node.op, tokens=min(counts), dtype="float")))
    return graph.update(*changed) if changed else graph


class _Counted:
    """Reshapes that make an axis of heads, out of one axis, told that it counts."""

    def __init__(self, graph: ArchGraph) -> None:
        self.graph = graph
        self.found: dict[str, Node] = {}
        self.seen: set[tuple[str, int]] = set()

    def count(self, name: str, axis: int) -> None:
        """`axis` of what `name` writes counts heads; so does that axis of what it is made of, and of what is made of it
        place by place."""
        if (name, axis) in self.seen:
            return
        self.seen.add((name, axis))
        self._before(name, axis)
        for reader, _ in self.graph.consumers(name):
            self._after(name, axis, reader)

    def _after(self, name: str, axis: int, reader: str) -> None:
        op, shape, found = self.graph[reader].op, self.graph.shape(name), self.graph.shape(reader)
        if op.trait is ops.Trait.PERMUTE:
            self.count(reader, op.permutation.index(axis))
        elif len(found) == len(shape) and found[axis] == shape[axis] and self._keeps(reader, axis):
            self.count(reader, axis)

    def _keeps(self, name: str, axis: int) -> bool:
        """Whether `axis` of what `name` writes is that of what it reads."""
        op, rank = self.graph[name].op, len(self.graph.shape(name))
        match op.trait:
            case ops.Trait.INVARIANT | ops.Trait.SLICE | ops.Trait.TIE:
                return axis not in op.fixes(rank)
            case ops.Trait.OPAQUE if op.carries(self.graph.input_shapes(name)):
                return axis not in op.fixes(rank) and not (op.multiplies and axis >= rank - 2)
            case _:
                return False

    def _inputs(self, name: str, axis: int) -> None:
        """Of each input that is as long along `axis` as what `name` writes."""
        shape = self.graph.shape(name)
        for source, read in zip(self.graph[name].inputs, self.graph.input_shapes(name), strict=True):
            if len(read) == len(shape) and read[axis] == shape[axis]:
                self.count(source, axis)

    def _before(self, name: str, axis: int) -> None:
        node = self.graph[name]
        op = node.op
        match op.trait:
            case ops.Trait.PERMUTE:
                self.count(node.inputs[0], op.permutation[axis])
            case ops.Trait.DROP:
                before = len(self.graph.input_shapes(name)[0])
                gone = {place % before for place in op.fixes(before)}
                self.count(node.inputs[0], [a for a in range(before) if a not in gone][axis])
            case ops.Trait.RESHAPE:
                before, after = self.graph.input_shapes(name)[0], self.graph.shape(name)
                for old, new in matched(before, after):
                    if axis not in new:
                        continue
                    long = [place for place in new if after[place] > 1]
                    if len(long) > 1 and isinstance(op, ops.Reshape) and op.width is None:
                        self.found[name] = replace(node, op=replace(op, width=axis))
                    whole = [place for place in old if before[place] > 1]
                    if len(whole) == 1 and prod(after[a] for a in new) > 1:
                        self.count(node.inputs[0], whole[0])
            case _ if self._keeps(name, axis):
                self._inputs(name, axis)
            case _:
                return


def _with_parts_apart(graph: ArchGraph, counted: Collection[str]) -> ArchGraph:
    """`graph` with the width of the reshapes that are not `counted`; each decides what is the width behind it."""
    main = main_axes(graph)
    for name in [
        node.name for node in graph if isinstance(node.op, ops.Reshape) and node.name not in counted
    ]:
        node = graph[name]
        axis = _apart(graph, node, main[node.inputs[0]]) if node.op.width_axis is None else None
        if axis is not None:
            graph = graph.update(replace(node, op=replace(node.op, width=axis)))
            main = main_axes(graph)
    return graph


def _apart(graph: ArchGraph, node: Node, width: int) -> int | None:
    """The one of several axes made of `width` that stays by itself where the tensor is reshaped again, the others
    becoming parts of other axes, as when pixels are made of channels."""
    before, after = graph.input_shapes(node.name)[0], graph.shape(node.name)
    run = next((new for old, new in matched(before, after) if old == [width]), ())
    run = run if sum(after[axis] > 1 for axis in run) > 1 else ()
    name, axes = node.name, [*range(len(after))]
    while run and len(readers := graph.consumers(name)) == 1:
        name = readers[0][0]
        op = graph[name].op
        if op.trait is ops.Trait.PERMUTE:
            axes = [axes[axis] for axis in op.permutation]
        elif op.trait is ops.Trait.RESHAPE:
            sizes = tuple(after[axis] for axis in axes)
            alone = [
                axes[old[0]] for old, new in matched(sizes, graph.shape(name)) if len(old) == len(new) == 1
            ]
            found = [axis for axis in run if axis in alone]
            return found[0] if len(found) == 1 else None
        else:
            return None
    return None


def _width(graph: ArchGraph, node: Node, main: dict[str, int]) -> int | None:
    """The axis of a parameter that becomes the width of what it is put together with."""
    name, axes = node.name, [*range(len(graph.shape(node.name)))]
    while True:
        readers = graph.consumers(name)
        if len(readers) != 1:
            return None
        reader = graph[readers[0][0]]
        if reader.op.trait in (ops.Trait.TIE, ops.Trait.STACK):
            partner = next((source for source in reader.inputs if source != name), None)
            if partner is None:
                return None
            wanted = main[partner] if len(graph.shape(partner)) == len(axes) else None
            return next((a for place, a in enumerate(axes) if place == wanted and a >= 0), None)
        if reader.op.trait is not ops.Trait.RESHAPE:
            return None
        before, after = graph.shape(name), graph.shape(reader.name)
        moved = [-1] * len(after)
        for old, new in matched(before, after):
            long = [a for a in old if before[a] > 1], [a for a in new if after[a] > 1]
            if len(long[0]) == len(long[1]) == 1:
                moved[long[1][0]] = axes[long[0][0]]
        name, axes = reader.name, moved
