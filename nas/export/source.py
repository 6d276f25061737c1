"""A network as source code: model.py, generated from the layer table of `morphs.torch_io.layers`."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any, cast

from torch import nn

from morphs import ArchGraph, Node, cost
from morphs.graph import ops
from morphs.torch_io.layers import Layer, layer, method
from nas.base.text import printable
from nas.export.card import ModelCard, nature, reading_of, steps_of
from nas.export.names import attribute_names, variable_names
from nas.export.templates import render

WIDTH = 110
POSITIONAL = frozenset(
    {
        "in_channels", "out_channels", "in_features", "out_features", "num_features", "phi", "normalized_shape",
        "num_embeddings", "embedding_dim", "num_groups", "num_channels", "size",
    }
)  # fmt: skip


def model_source(graph: ArchGraph, card: ModelCard) -> str:
    """Return model.py for `graph` (one input, a vector of class scores as output).

    It imports only torch and the standard library, and reads the weights by the names of `attribute_names`.
    """
    costs = cost(graph)
    values = {
        "fingerprint": graph.fingerprint,
        "params": costs.params,
        "macs": costs.macs,
        "input_shape": _tuple("INPUT_SHAPE", graph.inputs[0].op.shape(())),
        "mean": _tuple("MEAN", card.mean),
        "std": _tuple("STD", card.std),
        **nature(card, graph),
        "classes": _tuple("CLASSES" if card.targets == "classes" else "OUTPUTS", card.classes),
        "centre": _tuple("CENTRE", card.centre) if card.centre else "",
        "scale": _tuple("SCALE", card.scale) if card.scale else "",
        "reading": _reading_lines(card, graph),
        "table": _table_lines(card),
        "described": [f"* {_quoted(step)}" for step in steps_of(card, graph)],
        "definitions": [inspect.getsource(cls).rstrip() for cls in _own_classes(graph)],
        "layers": _layer_lines(graph),
        "forward": _forward_lines(graph),
    }
    return render("model.py.j2", values)


def _own_classes(graph: ArchGraph) -> list[type[nn.Module]]:
    """Return the module classes in use that torch does not have, sorted by name."""
    used = {made[0] for node in graph if (made := _made(graph, node)) is not None}
    return sorted((cls for cls in used if not _is_torch(cls)), key=lambda cls: cls.__name__)


def _is_torch(cls: type[nn.Module]) -> bool:
    return getattr(nn, cls.__name__, None) is cls


def _made(graph: ArchGraph, node: Node) -> Layer | None:
    return layer(node.op, graph.input_shapes(node.name))


# -- __init__ ----------------------------------------------------------------------------------------


def _layer_lines(graph: ArchGraph) -> list[str]:
    """Return `self.name = nn.Layer(…)` for each owner of a layer, in canonical order."""
    attributes = attribute_names(graph)
    lines: list[str] = []
    for owner in dict.fromkeys(node.owner for node in graph):
        made = _made(graph, graph[owner])
        if made is not None:
            head, arguments = _call(made)
            lines += _wrapped(f"self.{attributes[owner]} = {head}", arguments)
    return lines


def _call(made: Layer) -> tuple[str, list[str]]:
    """Return the constructor and its arguments as text, without those at the constructor's defaults."""
    cls, given = made
    signature = inspect.signature(cls)
    arguments: list[str] = []
    for key, value in given.items():
        short = _shortened(value)
        default = signature.parameters[key].default
        if short == default and type(short) is type(default):
            continue
        if isinstance(short, tuple) and isinstance(cast(tuple[Any, ...], short)[0], type):
            head, inner = _call(cast(Layer, short))
            text = f"{head}({', '.join(inner)})"
        else:
            text = _literal(short)
        arguments.append(text if key in POSITIONAL else f"{key}={text}")
    return (f"nn.{cls.__name__}" if _is_torch(cls) else cls.__name__), arguments


def _shortened(value: Any) -> Any:
    """Shorten (3, 3) to 3, which means the same to torch's layers."""
    if isinstance(value, tuple) and len(cast(tuple[Any, ...], value)) == 2 and value[0] == value[1]:
        return value[0]
    return value


# -- forward -----------------------------------------------------------------------------------------


def _forward_lines(graph: ArchGraph) -> list[str]:
    """Return one assignment for each node, with a comment for the shape where it changes or paths join."""
    attributes, variables = attribute_names(graph), variable_names(graph)
    lines: list[str] = []
    for node in graph:
        read = [variables[source] for source in node.inputs]
        target = variables[node.name]
        comment = f"  # {_shape_text(graph, node)}"
        if isinstance(node.op, ops.Input):
            lines.append(f"# {target}: {_shape_text(graph, node)}")
        elif isinstance(node.op, ops.Output):
            lines.append(f"return {read[0]}")
        elif graph[node.owner].op.kind != node.op.kind:  # an embedding's weight, used as a linear layer's
            weight = f"self.{attributes[node.owner]}.weight"
            lines += _commented([f"{target} = nn.functional.linear({read[0]}, {weight})"], comment)
        elif _made(graph, node) is not None:
            read = read or [variables[graph.inputs[0].name]]
            code = _wrapped(f"{target} = self.{attributes[node.owner]}", read)
            same = bool(node.inputs) and graph.shape(node.name) == graph.shape(node.inputs[0])
            lines += _commented(code, "" if same else comment)
        else:
            lines += _commented([f"{target} = {_joined(node, read)}"], comment)
    return lines


def _joined(node: Node, read: Sequence[str]) -> str:
    call = method(node.op)
    if call is not None:
        return f"{read[0]}.{call[0]}({', '.join(map(str, call[1]))})"
    match node.op:
        case ops.Add():
            return " + ".join(read)
        case ops.Multiply():
            return " * ".join(read)
        case ops.Concat():
            axis = node.op.axis if node.op.axis < 0 else node.op.axis + 1
            return f"torch.cat([{', '.join(read)}], dim={axis})"
        case _:
            raise NotImplementedError(f"export: {node.op.kind} has neither a layer nor an expression")


def _shape_text(graph: ArchGraph, node: Node) -> str:
    return f"[{', '.join(['B', *map(str, graph.shape(node.name))])}]"


def _commented(code: list[str], comment: str) -> list[str]:
    if len(code) == 1 and 8 + len(code[0] + comment) <= WIDTH:
        return [code[0] + comment]
    return [comment.strip(), *code] if comment else code


# -- text --------------------------------------------------------------------------------------------


def _wrapped(head: str, arguments: Sequence[str], indent: int = 8) -> list[str]:
    """Break a call into lines as a formatter would; the lines are not yet indented by `indent` spaces."""
    inside = ", ".join(arguments)
    if indent + len(f"{head}({inside})") <= WIDTH or not arguments:
        return [f"{head}({inside})"]
    if indent + 4 + len(inside) <= WIDTH:
        return [f"{head}(", f"    {inside}", ")"]
    return [f"{head}(", *(f"    {argument}," for argument in arguments), ")"]


def _tuple(name: str, values: Sequence[Any]) -> str:
    """Return `NAME = (…)`, with one value on each line if they don't fit on one."""
    items = [_literal(value) for value in values]
    inside = f"{items[0]}," if len(items) == 1 else ", ".join(items)
    line = f"{name} = ({inside})"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name} = (", *(f"    {item}," for item in items), ")"])


def _table_lines(card: ModelCard) -> str:
    """Return `COLUMNS = […]`, a line each; "" without a table."""
    if card.table is None:
        return ""
    lines = [
        f"    {{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in asdict(c).items())}}},"
        for c in card.table
    ]
    return "\n".join(["COLUMNS: list[dict[str, Any]] = [", *lines, "]"])


def _reading_lines(card: ModelCard, graph: ArchGraph) -> str:
    """Return `READING = {…}`, or None, as a formatter would write it."""
    reading = reading_of(card, graph)
    if reading is None:
        return "READING: dict[str, Any] | None = None"
    items = [f'"{name}": {_literal(value)}' for name, value in asdict(reading).items()]
    line = f"READING: dict[str, Any] | None = {{{', '.join(items)}}}"
    return (
        line
        if len(line) <= WIDTH
        else "\n".join([line.partition("{")[0] + "{", *(f"    {i}," for i in items), "}"])
    )


def _quoted(text: str) -> str:
    """Return a text for a docstring, on one line: a column may be called anything."""
    return printable(" ".join(text.split())).replace("\\", "\\\\").replace('"', "'")


def _literal(value: Any) -> str:
    """Return a Python literal, with strings in double quotes where that needs no escape."""
    if isinstance(value, float) and not isfinite(value):
        return f'float("{value}")'
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text and "\\'" not in text:
        return f'"{text[1:-1]}"'
    return text
