"""What the readers of torch modules and calls work with: tensors of the traced program, and what is made of them."""

import operator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from morphs.graph.ops import Op, Pair, Shape


class Refused(Exception):
    """What the vocabulary can't express, and the remedy; whoever catches it adds the place."""


class Batch:
    """The length of the batch axis: known to be there, never to be computed with."""

    def __repr__(self) -> str:
        return "B"


BATCH = Batch()


@dataclass(eq=False)
class Ref:
    """A tensor of the traced program: the node that computes its present contents, its shape without batch.

    `family` holds the tensors that share its memory; a stale one was written over through another.
    """

    name: str
    shape: Shape
    family: list["Ref"] = field(default_factory=list["Ref"])
    stale: bool = False


class Memory(Enum):
    """Where a call leaves its result."""

    NEW = "new"  # in memory of its own
    VIEW = "view"  # in another tensor object, perhaps on the same memory
    SAME = "same"  # in the very tensor it read first


@dataclass(frozen=True)
class OpChain:
    """What a call comes to: a chain of ops (none: it passes its input on), the first of which reads `reads`."""

    ops: tuple[Op, ...]
    reads: tuple[Ref, ...]
    memory: Memory = Memory.NEW
    stem: str = ""  # how to name the first op's node; by default after the op


def tensor(value: Any) -> Ref:
    """`value` as a tensor that may be read."""
    if not isinstance(value, Ref):
        raise Refused(
            f"it takes {value!r:.40}, which no input leads to; use tensors computed from the inputs"
        )
    if value.stale:
        raise Refused(
            "it reads a tensor that was changed in place through another view; drop the inplace=True"
        )
    return value


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
