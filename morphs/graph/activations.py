"""What the moves must know of each activation function φ; the functions themselves live in `torch_io`."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class ActivationTraits:
    """Facts about φ: its arguments with their defaults, and what a move may rely on."""

    args: tuple[tuple[str, float], ...] = ()
    idempotent: bool = False  # φ(φ(x)) = φ(x): equation 8's condition
    nonnegative: bool = False  # φ(x) ≥ 0 everywhere
    zero_at_zero: bool = True  # φ(0) = 0


ACTIVATIONS: Mapping[str, ActivationTraits] = MappingProxyType(
    {
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
)
