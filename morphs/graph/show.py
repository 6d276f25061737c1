"""The short text form of a graph.

One line for each node, in canonical order; attributes at their defaults are left out, pairs of equal
numbers are written as one, and an activation is written by its function's name:

    x = input(size=[1, 8, 8])
    c1 = conv2d(x, channels=16, kernel=3, padding=1)
    r1 = relu(c1)
"""

from dataclasses import MISSING, fields
from typing import Any

from morphs.errors import CodecError, GraphError
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.codec import OP_BY_KIND
from morphs.graph.node import Node
from morphs.graph.ops import Op, Pair, Role
from morphs.textform import format_call, format_value, parse_call
from morphs.typed import build, field_types


def node_to_text(node: Node) -> str:
    """One line of the short text form."""
    name, keywords = op_to_call(node.op)
    if node.owner != node.name:
        keywords["owner"] = node.owner
    return f"{node.name} = {format_call(name, [format_value(source) for source in node.inputs], keywords)}"


def op_to_call(op: Op) -> tuple[str, dict[str, Any]]:
    """Name and attributes by which the text form writes `op`."""
    types = field_types(type(op))
    given = {f.name: getattr(op, f.name) for f in fields(op)}
    short = {
        f.name: _shorten(given[f.name], types[f.name])
        for f in fields(op)
        if f.default is MISSING or given[f.name] != f.default
    }
    if op.phi is not None:
        del short["fn"]
        return op.phi, short
    if op.role is Role.POOL and given["stride"] == given["kernel"]:
        del short["stride"]
    return op.kind, short


def parse_node(line: str) -> Node:
    """The node that one line describes."""
    name, equals, call = line.partition("=")
    try:
        if not equals:
            raise ValueError("it has not the form name = op(inputs, key=value); write it so")
        kind, inputs, keywords = parse_call(call)
        owner = keywords.pop("owner", "")
        if not all(isinstance(source, str) for source in [*inputs, owner]):
            raise ValueError("an input or owner is not a name; give names of nodes")
        return Node(name.strip(), call_to_op(kind, keywords), tuple(inputs), owner)
    except GraphError:
        raise
    except (ValueError, TypeError) as error:
        raise CodecError(f"graph: line {line[:120]!r}: {error}") from None


def call_to_op(kind: str, keywords: dict[str, Any]) -> Op:
    """The op that the text form calls `kind`."""
    if kind in ACTIVATIONS:
        kind, keywords = "activation", {**keywords, "fn": kind}
    if kind not in OP_BY_KIND:
        raise ValueError(
            f"{kind} is not an op; there are {', '.join([*OP_BY_KIND, *ACTIVATIONS])}; a function of your own must be "
            f"registered first: morphs.register_activation(name, function)"
        )
    types = field_types(OP_BY_KIND[kind])
    values = {
        key: [value] * 2 if types.get(key) == Pair and type(value) is int else value
        for key, value in keywords.items()
    }
    if OP_BY_KIND[kind].role is Role.POOL and "kernel" in values:
        values.setdefault("stride", values["kernel"])
    return build(OP_BY_KIND[kind], values, partial=True)


def _shorten(value: Any, hint: Any) -> Any:
    return value[0] if hint == Pair and value[0] == value[1] else value
