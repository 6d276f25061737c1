"""Where the columns of a child's tensor come from when the units of one channel group change."""

from typing import Any

import numpy as np

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Axis, is_depthwise
from morphs.graph.widths import Widths, channel_groups
from morphs.move import Move
from morphs.moves.editing import require

Index = np.ndarray[Any, np.dtype[np.int64]]
NEW_UNIT = -1  # in an index map: a unit that the parent lacks


def free_group(move: Move, graph: ArchGraph, name: str) -> int:
    """Number of the channel group that `name` writes; IllegalMove when its width can't change."""
    require(graph, move.name, name)
    widths = channel_groups(graph)
    number = widths.group_of(name)
    if number is None:
        raise move.refuse(f'node "{name}" writes several groups of channels', _instead(widths))
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
    return np.concatenate([np.where(local < 0, NEW_UNIT, local + block * part) for block in range(blocks)])


def spans(graph: ArchGraph, widths: Widths, owner: str, axis: Axis) -> list[tuple[int, int, int]]:
    """(group, width, times) of the spans along a parameter's axis, cut to one group's share where it is grouped."""
    node = graph[owner]
    where = owner if axis is Axis.OUT else node.inputs[0]
    found = [(s.group, widths.groups[s.group].width, s.times) for s in widths.spans[where]]
    groups = getattr(node.op, "groups", 1)
    if axis is Axis.IN and groups > 1 and len(found) == 1:
        number, width, times = found[0]
        return [(number, width // groups, times)]
    return found


def columns(
    graph: ArchGraph, widths: Widths, owner: str, axis: Axis, number: int, units: Index
) -> Index | None:
    """The parent's column of every child column along a parameter's axis; None where the axis stays as it is."""
    if axis is Axis.NONE or (axis is Axis.IN and is_depthwise(graph[owner].op, graph.input_shapes(owner))):
        return None
    along = spans(graph, widths, owner, axis)
    if all(group != number for group, _, _ in along):
        return None
    pieces: list[Index] = []
    start = 0
    for group, width, times in along:
        whole = widths.groups[group].width
        mapped = units[: len(units) * width // whole] if group == number else np.arange(width)
        index = (mapped[:, None] * times + np.arange(times)).reshape(-1) + start
        pieces.append(np.where(np.repeat(mapped, times) < 0, NEW_UNIT, index))
        start += width * times
    return np.concatenate(pieces)
