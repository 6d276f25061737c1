"""The layer table: which torch module each op is, with its arguments.

`to_torch` builds modules from it and an exporter can print it as source; there is no second table.
B batch, C channels, F features.
"""

from typing import Any

import torch
from torch import Tensor, nn

from morphs.graph import ops
from morphs.graph.activations import ACTIVATIONS, REGISTERED
from morphs.graph.ops import Op, Shape


class PActivation(nn.Module):
    """(1 - a) * phi(x) + a * x with a learned `a` in [0, 1]; a = 1 is the identity, a = 0 is phi.

    `a` is one number or one for each channel. Keep it in range by calling `project_` after each step.
    """

    def __init__(self, phi: nn.Module, channels: int | None = None) -> None:
        super().__init__()
        self.phi = phi
        self.a = nn.Parameter(torch.ones(()) if channels is None else torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        a = self.a.to(x.dtype)
        if isinstance(self.phi, nn.ReLU):  # the same function, in one pass
            return nn.functional.prelu(x, a.reshape(-1))
        a = a.reshape([-1] + [1] * (x.dim() - 2))
        return (1 - a) * self.phi(x) + a * x

    def project_(self) -> None:
        """Clamp a to [0, 1]."""
        with torch.no_grad():
            self.a.clamp_(0, 1)


class Scale(nn.Module):
    """weight * x with one learned factor, or one for each channel."""

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()) if channels is None else torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        return self.weight.to(x.dtype).reshape([-1] + [1] * (x.dim() - 2)) * x


class Lerp(nn.Module):
    """(1 - a) * x + a * y with a learned `a` in [0, 1], one number or one for each channel.

    Keep it in range by calling `project_` after each step.
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()) if channels is None else torch.zeros(channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The same shape as x and y (N, C, ...)."""
        a = self.a.to(x.dtype).reshape([-1] + [1] * (x.dim() - 2))
        return (1 - a) * x + a * y

    def project_(self) -> None:
        """Clamp a to [0, 1]."""
        with torch.no_grad():
            self.a.clamp_(0, 1)


class RegisteredActivation(nn.Module):
    """An activation function that `morphs.register_activation` added, by its name."""

    def __init__(self, fn: str) -> None:
        super().__init__()
        self.activation_name = fn
        self.activation_function = REGISTERED[fn]

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x."""
        return self.activation_function(x)


ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}

Layer = tuple[type[nn.Module], dict[str, Any]]


def activation_layer(fn: str, args: tuple[float, ...]) -> Layer:
    """The torch module of an activation function, and its arguments."""
    if fn in REGISTERED:
        return RegisteredActivation, {"fn": fn}
    names = [name for name, _ in ACTIVATIONS[fn].args]
    return ACTIVATION_MODULES[fn], dict(zip(names, args, strict=False))


def layer(op: Op, inputs: tuple[Shape, ...]) -> Layer | None:
    """(module class, arguments) of `op` for these input shapes; None for ops that are plain functions.

    An argument that is itself a Layer is a module to build first.
    """
    width = inputs[0][0] if inputs else 0
    match op:
        case ops.Conv2d():
            return nn.Conv2d, {
                "in_channels": width, "out_channels": op.channels, "kernel_size": op.kernel, "stride": op.stride,
                "padding": op.padding, "dilation": op.dilation, "groups": op.groups, "bias": op.bias,
                "padding_mode": op.padding_mode,
            }  # fmt: skip
        case ops.Linear():
            return nn.Linear, {"in_features": width, "out_features": op.features, "bias": op.bias}
        case ops.BatchNorm():
            kind = nn.BatchNorm2d if len(inputs[0]) == 3 else nn.BatchNorm1d
            return kind, {
                "num_features": width, "eps": op.eps, "momentum": op.momentum, "affine": op.affine,
                "track_running_stats": op.track_running_stats,
            }  # fmt: skip
        case ops.Activation():
            return activation_layer(op.fn, op.args)
        case ops.PActivation():
            phi = activation_layer(op.fn, op.args)
            return PActivation, {"phi": phi, **({"channels": width} if op.per_channel else {})}
        case ops.Scale():
            return Scale, {"channels": width} if op.per_channel else {}
        case ops.Lerp():
            return Lerp, {"channels": width} if op.per_channel else {}
        case ops.MaxPool2d():
            return nn.MaxPool2d, {
                "kernel_size": op.kernel, "stride": op.stride, "padding": op.padding, "dilation": op.dilation,
                "ceil_mode": op.ceil_mode,
            }  # fmt: skip
        case ops.AvgPool2d():
            return nn.AvgPool2d, {
                "kernel_size": op.kernel, "stride": op.stride, "padding": op.padding, "ceil_mode": op.ceil_mode,
                "count_include_pad": op.count_include_pad,
            }  # fmt: skip
        case ops.AdaptiveAvgPool2d():
            return nn.AdaptiveAvgPool2d, {"output_size": op.size}
        case ops.AdaptiveMaxPool2d():
            return nn.AdaptiveMaxPool2d, {"output_size": op.size}
        case ops.Flatten():
            return nn.Flatten, {}
        case ops.Dropout():
            return nn.Dropout, {"p": op.p}
        case _:
            return None


def build_layer(made: Layer) -> nn.Module:
    """The torch module of a table entry."""
    cls, arguments = made
    return cls(**{key: build_layer(value) if _is_layer(value) else value for key, value in arguments.items()})


def _is_layer(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type)  # pyright: ignore
