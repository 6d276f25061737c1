"""Chains of moves as text, where some of the moves may be a user's own."""

from __future__ import annotations

from collections.abc import Iterable

from morphs import MOVES, Move
from nas.base.errors import UserError
from nas.base.user_code import resolve_named


def known_moves(named: Iterable[str]) -> tuple[type[Move], ...]:
    """Our moves and those of a user's, named as package.module:Move: for a worker process. Raises UserError."""
    return (*MOVES, *(resolve_named(name, "--moves", UserError) for name in named))
