"""What the moves must know of each activation function φ, and the registry of those that users add.

The functions of torch live in `torch_io`; a registered one is kept here, unread, for `torch_io` to call. This
registry is the one mutable value of the package, and `morphs.register_activation` its one writer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class ActivationTraits:
    """Facts about φ: its arguments with their defaults, and what a move may rely on."""

    args: tuple[tuple[str, float], ...] = ()
    idempotent: bool = False  # φ(φ(x)) = φ(x): equation 8's condition
    nonnegative: bool = False  # φ(x) ≥ 0 everywhere
    zero_at_zero: bool = True  # φ(0) = 0


_known = {
    "relu": ActivationTraits(idempotent=True, nonnegative=True),
    "relu6": ActivationTraits(idempotent=True, nonnegative=True),
    "leaky_relu": ActivationTraits(args=(("negative_slope", 0.01),)),
    "elu": ActivationTraits(args=(("alpha", 1.0),)),
    "gelu": ActivationTraits(),
    "silu": ActivationTraits(),
    "hardswish": ActivationTraits(),
    "mish": ActivationTraits(),
    "tanh": ActivationTraits(),
    "sigmoid": ActivationTraits(nonnegative=True, zero_at_zero=False),
    "softplus": ActivationTraits(nonnegative=True, zero_at_zero=False),
}
_functions: dict[str, Callable[[Any], Any]] = {}  # of the registered ones

PRELU = "prelu"  # what moves call the P-activation of ReLU, which it is, with its slope as a
BUILT_IN = tuple(_known)
ACTIVATIONS: Mapping[str, ActivationTraits] = MappingProxyType(_known)
REGISTERED: Mapping[str, Callable[[Any], Any]] = MappingProxyType(_functions)


def keep(name: str, function: Callable[[Any], Any], traits: ActivationTraits) -> None:
    """Add φ to both mappings; `morphs.register_activation` checks it first."""
    _known[name] = traits
    _functions[name] = function


def known_activations() -> str:
    """What to do about an unknown φ: the names there are, and how to add one."""
    return f"choose one of {', '.join(ACTIVATIONS)}, or register it first: morphs.register_activation(name, function)"
