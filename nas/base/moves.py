"""Chains of moves as text, where some of the moves may be a user's own."""

from __future__ import annotations

from collections.abc import Iterable

import morphs
from morphs import MOVES, Move
from morphs.errors import ParseError
from morphs.textform import parse_call, split
from morphs.typed import build
from nas.base.errors import UserError
from nas.base.user_code import resolve_named


def known_moves(named: Iterable[str]) -> tuple[type[Move], ...]:
    """Our moves and those of a user's, named as package.module:Move: for a worker process. Raises UserError."""
    return (*MOVES, *(resolve_named(name, "--moves", UserError) for name in named))


def parse_chain(text: str, moves: tuple[type[Move], ...] = MOVES) -> tuple[Move, ...]:
    """The moves of a chain, parted by `;`, each of a class in `moves`. Raises ParseError."""
    if set(moves) <= set(MOVES):
        return morphs.parse_chain(text)
    return tuple(_parse(part, moves) for part in split(text, ";"))


def _parse(text: str, moves: tuple[type[Move], ...]) -> Move:
    known = {move.name: move for move in moves}
    try:
        name, positional, keywords = parse_call(text)
        if positional or name not in known:
            raise ValueError(f"there is no move {name!s:.80}; choose one of {', '.join(known)}")
        return build(known[name], keywords, partial=True)
    except (ValueError, TypeError) as error:
        raise ParseError(f"move {text.strip()[:120]!r}: {error}") from None
