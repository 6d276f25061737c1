"""The short text form of a graph, and a drawing.

One line for each node, in canonical order; attributes at their defaults are left out, pairs of equal
numbers are written as one, and an activation is written by its function's name:

    x = input(size=[1, 8, 8])
    c1 = conv2d(x, channels=16, kernel=3, padding=1)
    r1 = relu(c1)
"""

from dataclasses import MISSING, fields
from html import escape
from typing import Any

from morphs.errors import CodecError, GraphError
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.codec import MAX_BYTES, OP_BY_KIND
from morphs.graph.ops import Activation, AvgPool2d, MaxPool2d, Op, Pair
from morphs.textform import format_call, parse_call
from morphs.typed import build, field_types


def graph_to_text(graph: ArchGraph) -> str:
    """The short text form; `parse_graph` gives back an equal graph."""
    return "\n".join(node_to_text(node) for node in graph)


def node_to_text(node: Node) -> str:
    """One line of the short text form."""
    name, keywords = op_to_call(node.op)
    if node.owner != node.name:
        keywords["owner"] = node.owner
    return f"{node.name} = {format_call(name, list(node.inputs), keywords)}"


def op_to_call(op: Op) -> tuple[str, dict[str, Any]]:
    """Name and attributes by which the text form writes `op`."""
    types = field_types(type(op))
    given = {f.name: getattr(op, f.name) for f in fields(op)}
    short = {
        f.name: _shorten(given[f.name], types[f.name])
        for f in fields(op)
        if f.default is MISSING or given[f.name] != f.default
    }
    if isinstance(op, Activation):
        del short["fn"]
        return op.fn, short
    if isinstance(op, (MaxPool2d, AvgPool2d)) and op.stride == op.kernel:
        del short["stride"]
    return op.kind, short


def parse_graph(text: str) -> ArchGraph:
    """The graph that `text` describes in the short text form; lines may also be parted by `;`.

    Raises CodecError naming the line, GraphError where the graph breaks a rule.
    """
    if len(text) > MAX_BYTES:
        raise CodecError(f"graph: the text has {len(text)} bytes, more than {MAX_BYTES}")
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    return ArchGraph(parse_node(line) for line in lines if line and not line.startswith("#"))


def parse_node(line: str) -> Node:
    """The node that one line describes."""
    name, equals, call = line.partition("=")
    try:
        if not equals:
            raise ValueError("it has not the form name = op(inputs, key=value)")
        kind, inputs, keywords = parse_call(call)
        owner = keywords.pop("owner", "")
        return Node(name.strip(), call_to_op(kind, keywords), tuple(map(str, inputs)), str(owner))
    except GraphError:
        raise
    except (ValueError, TypeError) as error:
        raise CodecError(f"graph: line {line[:120]!r}: {error}") from None


def call_to_op(kind: str, keywords: dict[str, Any]) -> Op:
    """The op that the text form calls `kind`."""
    if kind in ACTIVATIONS:
        kind, keywords = "activation", {**keywords, "fn": kind}
    if kind not in OP_BY_KIND:
        raise ValueError(f"{kind} is no op; there are {', '.join([*OP_BY_KIND, *ACTIVATIONS])}")
    types = field_types(OP_BY_KIND[kind])
    values = {
        key: [value] * 2 if types.get(key) == Pair and type(value) is int else value
        for key, value in keywords.items()
    }
    if kind in ("max_pool2d", "avg_pool2d") and "kernel" in values:
        values.setdefault("stride", values["kernel"])
    return build(OP_BY_KIND[kind], values, partial=True)


def _shorten(value: Any, hint: Any) -> Any:
    return value[0] if hint == Pair and value[0] == value[1] else value


# -- drawing -----------------------------------------------------------------------------------------

BOX_W, BOX_H, GAP_X, GAP_Y = 190, 38, 26, 26
FILLS = {
    "conv2d": "#cfe3ff", "linear": "#d9d2ff", "batch_norm": "#e6f3d8", "activation": "#ffe2c9",
    "p_activation": "#ffd0b5", "add": "#ffd6e2", "concat": "#ffd6e2", "multiply": "#ffd6e2",
}  # fmt: skip


def graph_to_svg(graph: ArchGraph) -> str:
    """A drawing, inputs on top, as one SVG element; boxes carry op, attributes and output shape."""
    rows: dict[str, int] = {}
    for node in graph:
        rows[node.name] = 1 + max((rows[source] for source in node.inputs), default=-1)
    columns = _columns(graph, rows)
    width = (max(columns.values()) + 1) * (BOX_W + GAP_X) + GAP_X
    height = (max(rows.values()) + 1) * (BOX_H + GAP_Y) + GAP_Y
    at = {
        name: (GAP_X + columns[name] * (BOX_W + GAP_X), GAP_Y + rows[name] * (BOX_H + GAP_Y)) for name in rows
    }
    edges = "".join(_edge(at[source], at[node.name]) for node in graph for source in node.inputs)
    boxes = "".join(_box(graph, node, *at[node.name]) for node in graph)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" role="img">{edges}{boxes}</svg>'
    )


def _columns(graph: ArchGraph, rows: dict[str, int]) -> dict[str, int]:
    """A free column for each node, its first input's where possible; long edges keep theirs free."""
    columns: dict[str, int] = {}
    taken: set[tuple[int, int]] = set()
    for node in graph:
        wanted = columns[node.inputs[0]] if node.inputs else 0
        last = max((rows[reader] for reader, _ in graph.consumers(node.name)), default=rows[node.name])
        passes = range(rows[node.name], max(last, rows[node.name] + 1))
        column = wanted
        while any((row, column) in taken for row in passes):
            column += 1
        columns[node.name] = column
        taken.update((row, column) for row in passes)
    return columns


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + BOX_W / 2, start[1] + BOX_H, end[0] + BOX_W / 2, end[1]
    middle = y2 - GAP_Y / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f} V{middle - 10:.0f} C{x1:.0f} {middle + 4:.0f} {x2:.0f} {middle - 8:.0f} '
        f'{x2:.0f} {y2:.0f}" fill="none" stroke="#778" stroke-width="1.4"/>'
    )


def _box(graph: ArchGraph, node: Node, x: int, y: int) -> str:
    name, keywords = op_to_call(node.op)
    attributes = ", ".join(f"{key}={value}" for key, value in keywords.items())
    title = escape(f"{node_to_text(node)}  ->  {'×'.join(map(str, graph.shape(node.name)))}")
    detail = f"{'×'.join(map(str, graph.shape(node.name)))}" + (f" · {attributes}" if attributes else "")
    return (
        f'<g><title>{title}</title><rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="7" '
        f'fill="{FILLS.get(node.op.kind, "#f1f1f4")}" stroke="#99a"/>'
        f'<text x="{x + 9}" y="{y + 16}" font-size="12" font-weight="600">{escape(_cut(f"{name}  {node.name}", 28))}</text>'
        f'<text x="{x + 9}" y="{y + 31}" font-size="10" fill="#445">{escape(_cut(detail, 34))}</text></g>'
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
