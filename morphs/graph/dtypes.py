"""Which tensors of a graph are in the floating type of the network's weights, whichever that is."""

import json
from collections.abc import Iterator
from enum import Enum
from itertools import zip_longest
from typing import Any, cast

from morphs.graph.arch import ArchGraph
from morphs.graph.aten import Aten, Held
from morphs.graph.node import Node
from morphs.graph.ops import Role

FLOATS = ("float", "bfloat", "half", "double", "complex")  # what the names of such types begin with
LIKE = {
    "aten.to.other": 1,
    "aten.type_as.default": 1,
}  # in the type of that one of the tensors that they read


class Numbers(Enum):
    """The type of a tensor's numbers."""

    OWN = "own"  # that of the weights
    COMPLEX = "complex"  # of that type's precision
    WHOLE = "whole"  # whole numbers or truth values, which leave the type of what they are put together with
    OTHER = "other"  # a floating type that stays as it is when the weights are converted, or depends on such a one


def foreign(graph: ArchGraph) -> frozenset[str]:
    """The nodes whose tensor may not be in the floating type of the weights."""
    return graph.once(_foreign)


def first_foreign_read(before: ArchGraph, graph: ArchGraph) -> tuple[str, str] | None:
    """A node of `graph`, edited from `before`, that reads a tensor of another type than that of the weights, and that
    tensor's node; None where only those do that did so before, or look rows up by whole numbers.
    """
    held = foreign(before)
    if not held:
        return None
    nodes = {node.name: node for node in before.topological()}
    for node in graph.topological():
        old = nodes.get(node.name)
        if node is old or node.op.role is Role.EMBEDDING:
            continue
        known = [source in held for source in old.inputs] if old is not None else []
        for source, was in zip_longest(node.inputs, known[: len(node.inputs)], fillvalue=False):
            if source in held and not was:
                return node.name, str(source)
    return None


def _foreign(graph: ArchGraph) -> frozenset[str]:
    found: dict[str, Numbers] = {}
    for node in graph.topological():
        found[node.name] = _written(graph, node, [found[source] for source in node.inputs])
    return frozenset(name for name, numbers in found.items() if numbers is not Numbers.OWN)


def _written(graph: ArchGraph, node: Node, read: list[Numbers]) -> Numbers:
    match node.op:
        case Aten() as op:
            return _of_operator(op, read)
        case Held() as op:
            return Numbers.OWN if op.dtype == "float" else Numbers.WHOLE
        case op if op.whole is not None:
            return Numbers.WHOLE
        case op if op.role in (
            Role.LAYER,
            Role.EMBEDDING,
        ):  # which take no other type than that of their weights
            return Numbers.OWN
        case _:
            own = bool(graph.facts(node.name).params) or not read
            return _together([*read, Numbers.OWN] if own else read)


def _of_operator(op: Aten, read: list[Numbers]) -> Numbers:
    if op.dtype not in ("float", "complex"):
        return Numbers.WHOLE
    named = next(_types([json.loads(op.args), json.loads(op.kwargs)]), None)
    if named == "own":
        return Numbers.OWN
    if named is not None:
        return Numbers.OTHER if named.startswith(FLOATS) else Numbers.WHOLE
    found = read[LIKE[op.operator]] if len(read) > LIKE.get(op.operator, len(read)) else _together(read)
    if found in (Numbers.WHOLE, Numbers.OTHER):  # of whole numbers, torch makes its default type
        return Numbers.OTHER
    return Numbers.COMPLEX if op.dtype == "complex" else Numbers.OWN


def _together(read: list[Numbers]) -> Numbers:
    """What comes of numbers of several types."""
    ranks = (Numbers.OTHER, Numbers.COMPLEX, Numbers.OWN)
    return next((numbers for numbers in ranks if numbers in read), Numbers.WHOLE)


def _types(given: Any) -> Iterator[str]:
    """The types that an operator is told to write."""
    if isinstance(given, list):
        for item in cast(list[Any], given):
            yield from _types(item)
    elif isinstance(given, dict):
        known = cast(dict[str, Any], given)
        if isinstance(known.get("dtype"), str):
            yield known["dtype"]
        else:
            yield from _types([*known.values()])
