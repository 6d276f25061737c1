"""What a search space is: a seed graph, the moves allowed with their menus, and limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from morphs import ArchGraph, Limits, Move

Shape = tuple[int, int, int]  # (C, H, W)


@dataclass(frozen=True)
class Space:
    """A seed graph, (move class, options) pairs, and limits that a run's own limits tighten."""

    seed: ArchGraph
    moves: tuple[tuple[type[Move], Mapping[str, Any]], ...]
    limits: Limits = field(default_factory=Limits)


SpaceFunction = Callable[[Shape, int], Space]  # (input shape, number of classes) -> Space
