"""What a search space is: a seed graph, the moves allowed with their menus, and limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from morphs import ArchGraph, Limits, Move
from morphs.choices import check_menu

Shape = tuple[int, ...]  # (C, H, W) of images, (F,) of vectors, (C, L) of sequences, (T,) of tokens


@dataclass(frozen=True)
class Space:
    """A seed graph, (move class, options) pairs, and limits that a run's own limits tighten.

    Raises ParseError where options are not the menu of their move.
    """

    seed: ArchGraph
    moves: tuple[tuple[type[Move], Mapping[str, Any]], ...]
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for move, options in self.moves:
            check_menu(move, options)


# (input shape, number of outputs) -> Space; for data of tokens also tokens=K, how many different ones there are.
SpaceFunction = Callable[..., Space]
