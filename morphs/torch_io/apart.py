"""Ops whose tensors no layer of torch holds: the functions of torch that compute them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key, Node
from morphs.graph.ops import Op, Shape


@dataclass(frozen=True)
class Function:
    """A function of torch.nn.functional, or a method, of an input and of tensors, with what it is given besides."""

    name: str
    tensors: tuple[str, ...]
    given: tuple[Any, ...] = ()
    named: tuple[tuple[str, Any], ...] = ()


def called(op: Op, inputs: tuple[Shape, ...]) -> Function | None:
    """The function that an op is on tensors that no layer of torch holds; None for ops that have none."""
    both = ("weight", "bias") if getattr(op, "bias", False) else ("weight",)
    match op:
        case ops.Linear() | ops.Unembedding():
            return Function("linear", both)
        case ops.LayerNorm() if op.affine:
            return Function("layer_norm", both, ((inputs[0][-1],),), (("eps", op.eps),))
        case ops.RMSNorm() if op.affine:
            return Function("rms_norm", both, ((inputs[0][-1],),), (("eps", op.eps),))
        case ops.Embedding():
            return Function(
                "embedding", both, (), () if op.padding is None else (("padding_idx", op.padding),)
            )
        case ops.Parameter():
            return Function("expand", both)
        case _:
            return None


def held_apart(graph: ArchGraph, keys: Mapping[Key, str], node: Node) -> Function | None:
    """The function at `node`, if its tensors are not those of one layer under the layer's names."""
    function = called(node.op, graph.input_shapes(node.name))
    if function is None or isinstance(node.op, ops.Parameter) or graph[node.owner].op.kind != node.op.kind:
        return function
    found = {name: keys[node.owner, name] for name in graph.facts(node.owner).params}
    path = next(iter(found.values()), "").rpartition(".")[0]
    fits = path and all(key == f"{path}.{name}" for name, key in found.items())
    return None if fits or not found else function
