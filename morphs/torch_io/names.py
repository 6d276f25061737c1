"""Names of nodes, and the paths of their modules."""

import re
from collections.abc import Sequence
from keyword import kwlist

import torch
from torch import nn
from torch.fx import Graph, GraphModule

from morphs.graph.node import natural_key
from morphs.torch_io.aten_call import AtenCall
from morphs.torch_io.frozen import FrozenBatchNorm, HeldBatchNorm
from morphs.torch_io.layers import (
    ACTIVATION_MODULES,
    Attention,
    DropPath,
    Lerp,
    Method,
    PActivation,
    Projection,
    Scale,
)

_TRACED = frozenset(dir(GraphModule(nn.Module(), Graph())))
_RESERVED = _TRACED | frozenset((*kwlist, "self"))
_CALLED = frozenset(
    (*kwlist, "self", "torch", "nn", "device", "next", "float", "getattr")
)  # by the code of a forward
TAKEN = (_TRACED - frozenset(dir(nn.Module()))) | {
    "self"
}  # of a module's own parts, by the module that a copy is


def _attributes_of_layers() -> frozenset[str]:
    """What the modules of the layer table call their own attributes."""
    with torch.device("meta"):
        embedding = nn.Embedding(1, 1, _weight=torch.empty(1, 1))  # drawing one would import torch's compiler
        layers = (
            nn.Conv2d(1, 1, 1), nn.Linear(1, 1), nn.BatchNorm2d(1), nn.MaxPool2d(1), nn.AvgPool2d(1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), Scale(), Lerp(), PActivation(nn.ReLU()),
            embedding, nn.LayerNorm(1), nn.RMSNorm(1), nn.GroupNorm(1, 1), Attention(),
            nn.InstanceNorm1d(1), nn.LSTM(1, 1), nn.GRU(1, 1),
            nn.ConvTranspose2d(1, 1, 1), Method("mean", ()), Projection(1, 1),
            DropPath(0.5), FrozenBatchNorm(1), HeldBatchNorm(1), AtenCall("aten.relu.default"),
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


def node_name(path: str) -> str:
    """The name of the node for the module at `path`: the path itself, where that is a name.

    The inverse of `module_path` for paths that it made.
    """
    bare = ".".join(part.removeprefix("node_") for part in path.split("."))
    return legal_name(bare if module_path(bare) == path else path)


def legal_name(path: str) -> str:
    """`path` as a node's name: layer0 for the unnamed 0 of a Sequential."""
    name = re.sub(r"[^\w.]", "_", path, flags=re.ASCII)
    return f"layer{name}" if name[:1].isdigit() else name


def input_names(arguments: Sequence[str]) -> list[str]:
    """Nodes' names for the arguments of a forward, given as legal names that differ.

    A network's inputs are ordered by name: where the arguments are not, `input1_` and so on comes before them.
    """
    ordered = sorted(arguments, key=natural_key) == [*arguments]
    if ordered and _unnumbered(arguments) is None:
        return [*arguments]
    return [f"input{number}_{name}" for number, name in enumerate(arguments, 1)]


def argument_names(inputs: Sequence[str]) -> list[str]:
    """What a forward calls the inputs of a network: the inverse of `input_names`, with `_` after a name that the code
    uses itself."""
    found: list[str] = []
    for name in _unnumbered(inputs) or inputs:
        name = name.replace(".", "_")
        while name in _CALLED or name in found:
            name += "_"
        found.append(name)
    return found


def _unnumbered(names: Sequence[str]) -> list[str] | None:
    """Without `input1_` and so on, where all have it and still differ."""
    starts = [f"input{number}_" for number in range(1, len(names) + 1)]
    if not all(name.startswith(start) for name, start in zip(names, starts, strict=True)):
        return None
    bare = [name.removeprefix(start) for name, start in zip(names, starts, strict=True)]
    return bare if all(map(str.isidentifier, bare)) and len({*bare}) == len(bare) else None
