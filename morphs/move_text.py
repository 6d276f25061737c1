"""Moves from their text form or their JSON."""

import json
from collections.abc import Mapping
from typing import Any

from morphs.errors import ParseError
from morphs.move import Move
from morphs.moves import MOVES
from morphs.textform import parse_call, refuse_constant, split
from morphs.typed import build

Moves = tuple[type[Move], ...]


def parse(text: str, moves: Moves = MOVES) -> Move:
    """The move of its text form, such as `widen(node=c3, to=96)`, or of its JSON; fields left out take their
    defaults.

    moves: the move classes that are known; add your own with `(*morphs.MOVES, MyMove)`.

    Raises ParseError saying what is wrong, also where two of `moves` have one name.
    """
    known = by_name(moves)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ParseError(
            f"parse: a {type(text).__name__} is not text; give one such as widen(node=c3, to=96)"
        )
    try:
        name, keywords = _read_json(text) if text.lstrip().startswith("{") else _read_call(text)
        if name not in known:
            raise ValueError(f"there is no move {name!s:.80}; choose one of {', '.join(known)}")
        return build(known[name], keywords, partial=True)
    except (ValueError, TypeError) as error:
        raise ParseError(f"move {text.strip()[:120]!r}: {error}") from None


def by_name(moves: Moves) -> Mapping[str, type[Move]]:
    """`moves` by their names. Raises ParseError where two have one name."""
    known: dict[str, type[Move]] = {}
    for move in moves:
        if known.setdefault(move.name, move) is not move:
            pair = f"{known[move.name].__qualname__} and {move.__qualname__}"
            raise ParseError(f'moves: {pair} both have the name "{move.name}"; rename one')
    return known


def _read_call(text: str) -> tuple[str, dict[str, Any]]:
    name, positional, keywords = parse_call(text)
    if positional:
        raise ValueError(f"{positional[0]!r:.80} has no key; write key=value")
    return name, keywords


def _read_json(text: str) -> tuple[str, dict[str, Any]]:
    try:
        keywords: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error}); give what to_json wrote") from None
    name = keywords.pop("move", None)
    if not isinstance(name, str):
        raise ValueError('its JSON does not name a move; give its name as "move"')
    return name, keywords


def parse_chain(text: str, moves: Moves = MOVES) -> tuple[Move, ...]:
    """The moves of a chain, separated by `;`; an empty text is the empty chain. See `parse`."""
    return tuple(parse(part, moves) for part in split(text, ";"))
