"""Where the columns of a child's tensor come from when the units of one channel group change."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis
from morphs.graph.widths import Widths, channel_groups
from morphs.move import Index, Move
from morphs.moves.editing import require
from morphs.network import Key

NEW_UNIT = -1  # in an index map: a unit that the parent lacks


def free_group(move: Move, graph: ArchGraph, name: str) -> int:
    """Number of the channel group that `name` writes; IllegalMove when its width can't change."""
    require(graph, move.name, name)
    widths = channel_groups(graph)
    number = widths.group_of(name)
    if number is None:
        number = next((number for number, node in widths.free().items() if node == name), None)
    if number is None:
        facts = ("no width that can change", "several columns for each channel of its group")
        fact = dict(enumerate(facts)).get(len(widths.spans[name]), "several groups of channels")
        raise move.refuse(f'node "{name}" writes {fact}', _instead(widths))
    fixed = widths.groups[number].fixed
    if fixed is not None:
        raise move.refuse(f'node "{name}" {fixed}', _instead(widths))
    return number


def _instead(widths: Widths) -> str:
    """The remedy where the width of a node is not free."""
    free = list(widths.free().values())
    listed = ", ".join(free[:12]) + (", …" if len(free) > 12 else "")
    return f"choose one of {listed}" if free else "no width of this network is free"


def in_blocks(local: Index, part: int, blocks: int) -> Index:
    """The index map of one part of a group, repeated for all its parts."""
    if blocks == 1:
        return local
    return np.concatenate([np.where(local < 0, NEW_UNIT, local + block * part) for block in range(blocks)])


def following(graph: ArchGraph, widths: Widths, number: int) -> Iterator[tuple[Key, tuple[Axis, ...]]]:
    """The parameters, in canonical order, of the layers that write or read channel group `number`: all whose axes
    can follow it; with their axes."""
    writers = widths.writers[number]
    near = {*writers, *(reader for name in writers for reader, _ in graph.consumers(name))}
    owners = {graph[name].owner for name in near}
    for node in graph:
        if node.name in owners:
            yield from (
                ((node.name, name), param.axes) for name, param in graph.facts(node.name).params.items()
            )


def depthwise(graph: ArchGraph, owner: str) -> bool:
    """Whether `owner` is a depthwise convolution, which reads one channel to each that it writes."""
    return graph[owner].op.depthwise(graph.input_shapes(owner))


def spans(graph: ArchGraph, widths: Widths, owner: str, axis: Axis) -> list[tuple[int, int, int]]:
    """(group, width, times) of the spans along a parameter's axis, cut to one group's share where it is grouped."""
    node = graph[owner]
    along = widths.axes[owner if axis.own else node.inputs[0]][node.op.axis]
    found = [(s.group, widths.groups[s.group].width, s.times) for s in along or ()]
    groups = node.op.groups
    if axis is Axis.IN and groups > 1 and len(found) == 1:
        number, width, times = found[0]
        return [(number, width // groups, times)]
    return found * node.op.gates if axis is Axis.GATES else found


@dataclass(frozen=True)
class ColumnMaps:
    """Where columns come from when channel group `number` of `graph` gets the units `units`: for each of the child's
    units the parent's, or NEW_UNIT."""

    graph: ArchGraph
    widths: Widths
    number: int
    units: Index
    _known: dict[tuple[tuple[int, int, int], ...], Index] = field(default_factory=dict)
    _asked: dict[tuple[str, Axis], Index | None] = field(default_factory=dict)

    def __call__(self, owner: str, axis: Axis) -> Index | None:
        """The parent's column of every child column along a parameter's axis; None where the axis stays as it is."""
        if axis is Axis.NONE:
            return None
        asked = (owner, axis)
        if asked not in self._asked:  # every parameter of the owner asks again
            self._asked[asked] = self._map(owner, axis)
        return self._asked[asked]

    def _map(self, owner: str, axis: Axis) -> Index | None:
        if axis is Axis.IN and depthwise(self.graph, owner):
            return None
        along = tuple(spans(self.graph, self.widths, owner, axis))
        if all(group != self.number for group, _, _ in along):
            return None
        if along not in self._known:  # many layers lie along the same spans
            self._known[along] = self._columns(along)
        return self._known[along]

    def _columns(self, along: tuple[tuple[int, int, int], ...]) -> Index:
        pieces: list[Index] = []
        start = 0
        for group, width, times in along:
            whole, units = self.widths.groups[group].width, self.units
            mapped = units[: len(units) * width // whole] if group == self.number else np.arange(width)
            index = (mapped[:, None] * times + np.arange(times)).reshape(-1) + start
            pieces.append(np.where(np.repeat(mapped, times) < 0, NEW_UNIT, index))
            start += width * times
        return np.concatenate(pieces)
