"""Network: an architecture graph with its weights, the value that a move maps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from morphs.errors import WeightsError
from morphs.graph.arch import ArchGraph

if TYPE_CHECKING:
    from torch import nn

Key = tuple[str, str]  # (owner node, parameter or buffer)


@dataclass(frozen=True, eq=False)
class Network:
    """An ArchGraph and a tensor for each of its parameters and buffers, keyed (owner node, parameter).

    Immutable by agreement: nobody writes into the tensors, which networks share. `to_torch` and
    `with_weights_from` copy. Raises WeightsError when a tensor is missing, superfluous, of another shape or
    not floating.
    """

    graph: ArchGraph
    weights: Mapping[Key, Tensor]

    def __post_init__(self) -> None:
        params = self.graph.params
        if params.keys() != self.weights.keys():
            node, name = min(params.keys() ^ self.weights.keys())
            fact = "is missing" if (node, name) in params else "belongs to no parameter of the graph"
            raise WeightsError(
                f'network: node "{node}": tensor {name} {fact}; give exactly the graph\'s parameters'
            )
        for (node, name), param in params.items():
            shape = tuple(self.weights[node, name].shape)
            if shape != param.shape:
                raise WeightsError(
                    f'network: node "{node}": {name} has shape {shape}; the graph says {param.shape}'
                )
            if name != "num_batches_tracked" and not self.weights[node, name].is_floating_point():
                raise WeightsError(
                    f'network: node "{node}": {name} is of {self.weights[node, name].dtype}; give floating numbers'
                )
        ordered = {key: self.weights[key].detach() for key in params}
        object.__setattr__(self, "weights", MappingProxyType(ordered))

    def __reduce__(self) -> tuple[type[Network], tuple[ArchGraph, dict[Key, Tensor]]]:
        return Network, (self.graph, dict(self.weights))

    def __repr__(self) -> str:
        return (
            f"Network({self.graph!r}, {sum(t.numel() for t in self.weights.values())} numbers, {self.dtype})"
        )

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest floating type of the weights (float64 of a network without any)."""
        kinds = {t.dtype for t in self.weights.values() if t.is_floating_point()}
        return min(kinds, key=lambda kind: torch.finfo(kind).bits, default=torch.float64)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the graph's fingerprint and every tensor's name, type, shape and bytes."""
        hashed = hashlib.sha256(self.graph.fingerprint.encode())
        for (node, name), tensor in sorted(self.weights.items()):
            hashed.update(f"\n{node}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.cpu().contiguous().reshape(-1)
            hashed.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        return hashed.hexdigest()

    def to(self, dtype: torch.dtype) -> Network:
        """The same network with floating weights converted to `dtype`."""
        return Network(
            self.graph, {k: t.to(dtype) if t.is_floating_point() else t for k, t in self.weights.items()}
        )

    def to_torch(self) -> nn.Module:
        """A plain nn.Module with its own copy of the weights; submodules bear the nodes' names."""
        from morphs.torch_io.to_torch import to_torch

        return to_torch(self)

    def with_weights_from(self, module: nn.Module) -> Network:
        """A network of the same graph with copies of the parameters and buffers of a trained module.

        Raises WeightsError when the module doesn't have the graph's parameters.
        """
        from morphs.torch_io.to_torch import weights_from

        return Network(self.graph, weights_from(self.graph, module))

    def nonfinite(self) -> tuple[Key, ...]:
        """The tensors that hold NaN or infinity."""
        return tuple(
            k for k, t in self.weights.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())
        )
