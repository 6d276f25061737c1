"""Network: an architecture graph with its weights, the value that a move maps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from operator import attrgetter
from types import MappingProxyType

import torch
from torch import Tensor, nn

from morphs.errors import UnsupportedModule, WeightsError
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key
from morphs.graph.ops import Param
from morphs.torch_io.keys import state_keys
from morphs.torch_io.to_torch import to_torch, weights_from

Versions = dict[Key, int | None]
_VERSION = attrgetter("_version")


@dataclass(frozen=True, eq=False)
class Network:
    """An ArchGraph and a tensor for each of its parameters and buffers, keyed (owner node, parameter).

    Immutable by agreement: nobody writes into the tensors, which networks share. `to_torch` and
    `with_weights_from` copy. Raises WeightsError when a tensor is missing, superfluous, of another shape or
    not floating.

    keys: of tensors that came from a module, where they were in its state, in its order: `to_torch` puts them there
    again. They are no part of what the network computes, nor of its digest.
    """

    graph: ArchGraph
    weights: Mapping[Key, Tensor]
    keys: Mapping[Key, str] = field(default_factory=dict[Key, str])

    def __post_init__(self) -> None:
        params = self.graph.params
        if params.keys() != self.weights.keys():
            node, name = min(params.keys() ^ self.weights.keys())
            fact = "is missing" if (node, name) in params else "belongs to no parameter of the graph"
            raise WeightsError(
                f'network: node "{node}": tensor {name} {fact}; give exactly the graph\'s parameters'
            )
        ordered = {key: checked(key, self.weights[key], param) for key, param in params.items()}
        object.__setattr__(self, "weights", MappingProxyType(ordered))

    def derived(self, graph: ArchGraph, made: Mapping[Key, Tensor]) -> Network:
        """A network of `graph` with the tensors in `made` and, for all other parameters, this network's own."""
        weights = {**self.weights, **made}
        changed, gone = graph.changed_params(self.graph), frozenset[Key]()
        if changed is None or not made.keys() <= self.weights.keys():
            params, known = graph.params, self.graph.params
            for node, name in params.keys() - weights.keys():
                raise WeightsError(f'network: node "{node}": tensor {name} is missing; make it')
            gone = weights.keys() - params.keys()
            weights = {key: weights[key] for key in params}
            changed = {key: param for key, param in params.items() if param is not known.get(key)}
        for key in dict.fromkeys((*made, *changed)):
            if key in weights:
                param = changed.get(key) or graph.facts(key[0]).params[key[1]]
                weights[key] = checked(key, weights[key], param)
        network = object.__new__(Network)
        object.__setattr__(network, "graph", graph)
        object.__setattr__(network, "weights", MappingProxyType(weights))
        object.__setattr__(network, "keys", self.keys)
        network._finite.update(self._finite)
        for key in (*made, *gone):
            network._finite.pop(key, None)
        return network

    def __reduce__(self) -> tuple[type[Network], tuple[ArchGraph, dict[Key, Tensor], dict[Key, str]]]:
        return Network, (self.graph, dict(self.weights), dict(self.keys))

    def __repr__(self) -> str:
        return (
            f"Network({self.graph!r}, {sum(t.numel() for t in self.weights.values())} numbers, {self.dtype})"
        )

    @cached_property
    def dtype(self) -> torch.dtype:
        """The coarsest floating type of the parameters; where there are none, of the other tensors, or else float64."""
        floats = {key: t.dtype for key, t in self.weights.items() if t.is_floating_point()}
        trained = {kind for key, kind in floats.items() if self.graph.params[key].trainable}
        kinds = trained or {*floats.values()}
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
            self.graph,
            {k: t.to(dtype) if t.is_floating_point() else t for k, t in self.weights.items()},
            self.keys,
        )

    def to_torch(self) -> nn.Module:
        """A plain nn.Module with its own copy of the weights; its parameters have the names and the order of the module
        that they came from, new ones the nodes' names."""
        return to_torch(self.graph, self.weights, self.keys)

    def state_keys(self) -> Mapping[Key, str]:
        """The key of each tensor in the state_dict of `to_torch()`."""
        return state_keys(self.graph, self.keys)

    def with_weights_from(self, module: nn.Module) -> Network:
        """A network of the same graph with copies of the parameters and buffers of a trained module.

        Raises WeightsError when the module doesn't have the graph's parameters.
        """
        return Network(self.graph, weights_from(self.graph, module, self.keys), self.keys)

    def nonfinite(self, versions: Versions | None = None) -> tuple[Key, ...]:
        """The tensors that hold NaN or infinity. What was found finite is looked at again only once written to.

        versions: as `versions` has just returned them.
        """
        known, versions = self._finite, self.versions() if versions is None else versions
        if known == versions and None not in versions.values():
            return ()
        for key, tensor in self.weights.items():
            if versions[key] is None or known.get(key) != versions[key]:
                known.pop(key, None)
                if is_finite(tensor) or self.graph.params[key].any:
                    known[key] = versions[key]
        return tuple(key for key in self.weights if key not in known)

    @cached_property
    def _finite(self) -> Versions:
        return {}

    def versions(self) -> Versions:
        """How often each tensor was written to; None for tensors of inference mode, which don't count."""
        try:
            return dict(zip(self.weights, map(_VERSION, self.weights.values()), strict=True))
        except RuntimeError:
            return {
                key: None if tensor.is_inference() else tensor._version  # pyright: ignore[reportPrivateUsage]
                for key, tensor in self.weights.items()
            }


def checked(key: Key, tensor: Tensor, param: Param) -> Tensor:
    """`tensor`, outside autograd, when it fits `param`; else WeightsError."""
    if tensor.shape != param.shape:
        raise WeightsError(
            f'network: node "{key[0]}": {key[1]} has shape {tuple(tensor.shape)}; the graph says {param.shape}'
        )
    if not tensor.dtype.is_floating_point and param.whole is None:
        raise WeightsError(f'network: node "{key[0]}": {key[1]} is of {tensor.dtype}; give floating numbers')
    return tensor if type(tensor) is Tensor and not tensor.requires_grad else tensor.detach()


def is_finite(tensor: Tensor) -> bool:
    """Whether `tensor` holds neither NaN nor infinity."""
    if not tensor.is_floating_point():
        return True
    # one pass: a sum with NaN or infinity in it is not finite; that of large finite numbers may overflow
    return isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all())


def check_network(value: object, where: str) -> None:
    """Raise UnsupportedModule unless `value` is a Network. where: begins the error."""
    if not isinstance(value, Network):
        fact = f"{where}: a {type(value).__name__} is not a Network"
        raise UnsupportedModule(f"{fact}; make one with morphs.from_torch(module, example_inputs)")
