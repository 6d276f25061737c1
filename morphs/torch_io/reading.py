"""Small steps of the readers of ATen calls."""

import operator
from typing import Any

from morphs.graph.ops import Pair


class Refused(Exception):
    """What the vocabulary can't express, and the remedy; whoever catches it adds the place."""


def only(name: str, value: Any, wanted: Any) -> None:
    """Refuse another value than the one the vocabulary has."""
    if value != wanted:
        raise Refused(f"{name}={value!r} is not in the vocabulary; only {name}={wanted!r} is")


def pair(value: Any) -> Pair:
    """An int or a sequence of one or two, as a pair of ints."""
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    try:
        first, second = (operator.index(v) for v in (values * 2 if len(values) == 1 else values))
    except (TypeError, ValueError):
        raise Refused(f"{value!r} is not a pair of whole numbers; give one or two") from None
    return first, second
