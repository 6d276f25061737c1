"""Network → nn.Module, and back after training."""

import operator
from collections.abc import Mapping
from keyword import kwlist
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torch.fx import Node as FxNode

from morphs.errors import WeightsError
from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key, Node
from morphs.torch_io.layers import (
    ACTIVATION_MODULES,
    Attention,
    Learned,
    Lerp,
    PActivation,
    Scale,
    build_layer,
    layer,
    method,
)  # fmt: skip

_RESERVED = frozenset(dir(GraphModule(nn.Module(), Graph()))) | frozenset((*kwlist, "self"))


def _attributes_of_layers() -> frozenset[str]:
    """What the modules of the layer table call their own attributes."""
    with torch.device("meta"):
        layers = (
            nn.Conv2d(1, 1, 1), nn.Linear(1, 1), nn.BatchNorm2d(1), nn.MaxPool2d(1), nn.AvgPool2d(1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), Scale(), Lerp(), PActivation(nn.ReLU()),
            nn.Embedding(1, 1), nn.LayerNorm(1), nn.RMSNorm(1), nn.GroupNorm(1, 1), Attention(), Learned((1,)),
            nn.ConvTranspose2d(1, 1, 1),
            *(activation() for activation in ACTIVATION_MODULES.values()),
        )  # fmt: skip
    of_registered = ("activation_name", "activation_function")
    return frozenset((*of_registered, *(name for module in layers for name in dir(module))))


# a part after a dot may sit inside a layer's module, whose attributes it must not hide
_OF_LAYERS = _RESERVED | _attributes_of_layers()


def module_path(name: str) -> str:
    """Where the module of node `name` lives: its own name, with `node_` before a part that torch or Python uses.

    Different names have different paths.
    """
    first, *rest = name.split(".")
    return ".".join([_safe(first, _RESERVED), *(_safe(part, _OF_LAYERS) for part in rest)])


def _safe(part: str, reserved: frozenset[str]) -> str:
    return f"node_{part}" if part in reserved or part.startswith("node_") else part


def to_torch(graph: ArchGraph, weights: Mapping[Key, Tensor]) -> nn.Module:
    """A torch.fx.GraphModule (an ordinary nn.Module) that computes `graph`, on copies of `weights`.

    It reads one positional tensor for each Input node, in canonical order. torch.compile and torch.export
    accept it. All its parameters require gradients: a Network doesn't know which were frozen, so set
    requires_grad=False again on those.
    """
    modules: dict[str, nn.Module] = {}
    trace = Graph()
    values: dict[str, FxNode] = {}
    for node in graph:  # placeholders come first in an fx graph
        if node.op.trait is ops.Trait.SOURCE:
            values[node.name] = trace.placeholder(node.name.replace(".", "_"))
    for node in graph:
        if node.name not in values:
            values[node.name] = _emit(graph, node, [values[i] for i in node.inputs], trace, modules)
    trace.output(values[graph.output.name])
    module = GraphModule(modules, trace, class_name="MorphedNetwork")
    state = {
        f"{module_path(owner)}.{name}": tensor.clone(memory_format=torch.contiguous_format)
        for (owner, name), tensor in weights.items()
    }
    module.load_state_dict(state, strict=True, assign=True)
    return module.train()


def _emit(
    graph: ArchGraph, node: Node, read: list[FxNode], trace: Graph, modules: dict[str, nn.Module]
) -> FxNode:
    owner = graph[node.owner]
    made = layer(owner.op, graph.input_shapes(owner.name))
    path = module_path(node.owner)
    if made is not None and path not in modules:
        with torch.device("meta"):  # the weights are assigned afterwards
            modules[path] = build_layer(made)
    if owner.op.kind != node.op.kind:  # an embedding's weight, used as a linear layer's
        modules[f"{path}.weight"] = modules[path].weight  # pyright: ignore[reportArgumentType]
        return trace.call_function(nn.functional.linear, (read[0], trace.get_attr(f"{path}.weight")))
    if made is not None:
        like = next(
            iter(trace.nodes)
        )  # the first input, of whose batch a tensor that reads nothing has the size
        return trace.call_module(path, tuple(read) or (like,))
    call = method(node.op)
    if call is not None:
        return trace.call_method(call[0], (read[0], *call[1]))
    match node.op:
        case ops.Concat():
            axis = node.op.axis if node.op.axis < 0 else node.op.axis + 1
            return trace.call_function(torch.cat, (tuple(read), axis))
        case ops.Add() | ops.Multiply():
            function: Any = operator.add if isinstance(node.op, ops.Add) else operator.mul
            total = read[0]
            for term in read[1:]:
                total = trace.call_function(function, (total, term))
            return total
        case _:  # the output node passes on what it reads
            return read[0]


def weights_from(graph: ArchGraph, module: nn.Module) -> dict[Key, Tensor]:
    """Copies of the parameters and buffers of `module`, keyed as a Network of `graph` needs them, on the CPU."""
    state = {key.removeprefix("_orig_mod."): value for key, value in module.state_dict().items()}
    weights: dict[Key, Tensor] = {}
    for owner, name in graph.params:
        path = f"{module_path(owner)}.{name}"
        if path not in state:
            raise WeightsError(
                f'network: node "{owner}": the module has no tensor {path}; give a module of this graph'
            )
        weights[owner, name] = state[path].detach().to("cpu", copy=True).contiguous()
    return weights
