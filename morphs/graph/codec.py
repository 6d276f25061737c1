"""Nodes ⇄ canonical JSON. Hostile documents are refused, never executed."""

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, cast

from morphs.errors import CodecError
from morphs.graph.node import Node
from morphs.graph.ops import OPS, Op
from morphs.textform import refuse_constant
from morphs.typed import build

FORMAT = 1
MAX_BYTES = 32 * 2**20
MAX_NODES = 100_000
OP_BY_KIND: dict[str, type[Op]] = {op.kind: op for op in OPS}


def canonical_json(document: object) -> str:
    """JSON with sorted keys and no spaces: equal documents give equal bytes; NaN is refused."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def nodes_to_json(nodes: Iterable[Node]) -> str:
    """Canonical JSON of a graph's nodes in canonical order."""
    listed = [{"name": n.name, "op": op_to_dict(n.op), "inputs": n.inputs, "owner": n.owner} for n in nodes]
    return canonical_json({"format": FORMAT, "nodes": listed})


def op_to_dict(op: Op) -> dict[str, Any]:
    """An op as JSON values: its kind and every field, but for later ones at their defaults."""
    values = {f.name: getattr(op, f.name) for f in fields(op)}
    usual = _later(type(op))
    return {"kind": op.kind, **{k: v for k, v in values.items() if k not in usual or v != usual[k]}}


def _later(op: type[Op]) -> dict[str, Any]:
    """The defaults of the fields that older files don't have."""
    return {f.name: f.default for f in fields(op) if f.name in op.later}


def require_text(text: Any, place: str) -> None:
    """Raise CodecError when `text` is not a string, or is too long."""
    if not isinstance(text, str):
        raise CodecError(f"{place}: a {type(text).__name__} is not text; give a string")
    if len(text) > MAX_BYTES:
        raise CodecError(
            f"{place}: the text has {len(text)} bytes, more than {MAX_BYTES}; give a smaller one"
        )


def nodes_from_json(text: str) -> list[Node]:
    """The nodes of `text`, each well formed by itself. Raises CodecError for any other document."""
    require_text(text, "graph")
    try:
        document: Any = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"graph: the document is not JSON ({error}); give what to_json wrote") from None
    if not isinstance(document, dict) or repr(cast(dict[str, Any], document).get("format")) != str(FORMAT):
        raise CodecError(
            f"graph: the document is not of format {FORMAT}; use the version of morphs that wrote it"
        )
    listed = cast(dict[str, Any], document).get("nodes")
    if not isinstance(listed, list) or len(cast(list[Any], listed)) > MAX_NODES:
        raise CodecError(f"graph: nodes is not a list of at most {MAX_NODES} nodes; give one")
    return [_node(entry) for entry in cast(list[Any], listed)]


def _node(entry: Any) -> Node:
    if not isinstance(entry, dict):
        raise CodecError("graph: a node is not a JSON object; give each name, op, inputs and owner")
    known = cast(dict[str, Any], entry)
    name, inputs, owner = known.get("name"), known.get("inputs"), known.get("owner")
    if known.keys() - {"name", "op", "inputs", "owner"}:
        raise CodecError(
            f"graph: node {name!r:.80} has a key that no node has; give name, op, inputs and owner"
        )
    if not isinstance(name, str) or not isinstance(owner, str) or not isinstance(inputs, list):
        raise CodecError(f"graph: node {name!r:.80} lacks a name, an owner or inputs; give all three")
    if not all(isinstance(source, str) for source in cast(list[Any], inputs)):
        raise CodecError(f"graph: node {name!r:.80} has an input that is not a name; give names of nodes")
    return Node(name, op_from_dict(known.get("op"), name), tuple(cast(list[str], inputs)), owner)


def op_from_dict(entry: Any, where: str) -> Op:
    """The op of `entry`; CodecError names `where` it stood."""
    if not isinstance(entry, dict):
        raise CodecError(f"graph: node {where!r:.80} has no op; give one")
    values = dict(cast(dict[str, Any], entry))
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in OP_BY_KIND:
        raise CodecError(
            f"graph: node {where!r:.80} has unknown op {kind!r:.80}; choose one of {', '.join(OP_BY_KIND)}"
        )
    try:
        return build(OP_BY_KIND[kind], {**_later(OP_BY_KIND[kind]), **values})
    except TypeError as error:
        raise CodecError(f"graph: node {where!r:.80}: {kind}: {error}") from None
