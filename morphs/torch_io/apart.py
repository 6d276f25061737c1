"""Ops whose tensors no layer of torch holds: the functions of torch that compute them."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx import Graph
from torch.fx import Node as FxNode

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
        case ops.NormedLayer():
            return _normed(op)
        case _:
            return None


def _normed(op: ops.NormedLayer) -> Function:
    sizes = ("stride", "padding", "dilation", "groups") if op.kernel else ()
    name = f"conv{len(op.kernel)}d" if op.kernel else "linear"
    return Function(name, tuple(params_of(op)), (), tuple((size, getattr(op, size)) for size in sizes))


def params_of(op: ops.NormedLayer) -> list[str]:
    """The names of its parameters: first those of which its weight is computed."""
    return [*(["g"] if op.gain else []), "v", *(["bias"] if op.bias else [])]


def row_weight(op: ops.NormedLayer, held: Mapping[str, Any], trace: Graph) -> FxNode:
    """Calls that compute the weight of `op`, written to `trace`; held: its parameters."""
    if op.how == "norm":
        return trace.call_function(getattr(torch, "_weight_norm"), (held["v"], held["g"], 0))  # noqa: B009 (private)
    factor = None
    if op.gain:
        factor = trace.call_function(operator.mul, (held["g"], op.scale))
        factor = trace.call_method("reshape", (factor, -1))
    flat = trace.call_method("reshape", (held["v"], 1, op.channels, -1))
    args = (flat, None, None, factor, None, True, 0.0, op.eps)
    return trace.call_method("reshape_as", (trace.call_function(nn.functional.batch_norm, args), held["v"]))


def row_weight_code(op: ops.NormedLayer, held: Mapping[str, str]) -> str:
    """The same as source."""
    if op.how == "norm":
        return f"torch._weight_norm({held['v']}, {held['g']}, 0)"
    factor = f"({held['g']} * {op.scale!r}).reshape(-1)" if op.gain else "None"
    flat = f"{held['v']}.reshape(1, {op.channels}, -1)"
    norm = f"nn.functional.batch_norm({flat}, None, None, {factor}, None, True, 0.0, {op.eps!r})"
    return f"{norm}.reshape_as({held['v']})"


def held_apart(graph: ArchGraph, keys: Mapping[Key, str], node: Node) -> Function | None:
    """The function at `node`, if its tensors are not those of one layer under the layer's names."""
    function = called(node.op, graph.input_shapes(node.name))
    apart = isinstance(node.op, ops.Parameter | ops.NormedLayer)
    if function is None or apart or graph[node.owner].op.kind != node.op.kind:
        return function
    found = {name: keys[node.owner, name] for name in graph.facts(node.owner).params}
    path = next(iter(found.values()), "").rpartition(".")[0]
    fits = path and all(key == f"{path}.{name}" for name, key in found.items())
    return None if fits or not found else function
