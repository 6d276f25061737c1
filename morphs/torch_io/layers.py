"""The layer table: which torch module each op is, with its arguments.

`to_torch` builds modules from it and an exporter can print it as source; there is no second table.
B batch, C channels, F features.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from morphs.errors import WeightsError
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


class Sum(nn.Module):
    """The sum of tensors of one shape."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The same shape as x."""
        for y in others:
            x = x + y
        return x


class Product(nn.Module):
    """The product of tensors, broadcast."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The common shape."""
        for y in others:
            x = x * y
        return x


class Join(nn.Module):
    """Tensors one after the other along axis 1."""

    def forward(self, *parts: Tensor) -> Tensor:
        """(N, sum of C, ...)."""
        return torch.cat(parts, 1)


class DropPath(nn.Module):
    """Stochastic depth: in train mode all of an example is zero with probability p."""

    def __init__(self, p: float, mode: str = "row", scaled: bool = True) -> None:
        super().__init__()
        self.p, self.mode, self.scaled = p, mode, scaled

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, ...)."""
        if not self.training:
            return x
        size = [x.size(0) if self.mode == "row" else 1] + [1] * (x.dim() - 1)
        noise = x.new_empty(size).bernoulli_(1 - self.p)
        return x * (noise.div_(1 - self.p) if self.scaled else noise)

    def extra_repr(self) -> str:
        """Its probability."""
        return f"p={self.p}, mode={self.mode}"


class FrozenBatchNorm(nn.Module):
    """Batch norm by its running statistics, in train mode too."""

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)


class AtenCall(nn.Module):
    """A call of one operator of PyTorch, its arguments given as `morphs.graph.aten.Aten` has them."""

    def __init__(self, operator: str, args: str = "[]", kwargs: str = "{}") -> None:
        super().__init__()
        self.operator, self.arguments, self.keywords = operator, json.loads(args), json.loads(kwargs)
        self.function = find_operator(operator)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "function": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.function = find_operator(self.operator)

    def forward(self, *tensors: Any, batch: int = 0, like: Tensor | None = None) -> Any:
        """What the operator returns. batch: B; like: a tensor of the network's floating type, where it runs."""
        if self.function is None:  # an item of several results
            return tensors[0][self.arguments[1]]
        like = next((t for t in tensors if isinstance(t, Tensor) and t.is_floating_point()), like)
        given = [self._fill(value, tensors, batch, like) for value in self.arguments]
        named = {key: self._fill(value, tensors, batch, like) for key, value in self.keywords.items()}
        return self.function(*given, **named)

    def _fill(self, value: Any, tensors: Any, batch: int, like: Tensor | None) -> Any:
        if isinstance(value, list):
            return [self._fill(item, tensors, batch, like) for item in value]
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "batch" in value:
            return value["batch"][0] * batch + value["batch"][1]
        if "dtype" in value:
            own = like.dtype if like is not None else torch.get_default_dtype()
            return own if value["dtype"] == "own" else getattr(torch, value["dtype"])
        if "device" in value:
            return None if like is None else like.device
        if "memory_format" in value:
            return getattr(torch, value["memory_format"])
        if "float" in value:
            return float(value["float"])
        return self._fill(value["train" if self.training else "eval"], tensors, batch, like)

    def extra_repr(self) -> str:
        """Operator and arguments."""
        return f"{self.operator}, {self.arguments}" + (f", {self.keywords}" if self.keywords else "")


def find_operator(name: str) -> Any:
    """The operator of that full name; None for `getitem`. Raises WeightsError where torch has none."""
    if name == "getitem":
        return None
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, OpOverload):
        raise WeightsError(f"aten: this torch has no operator {name:.80}; import the package that adds it")
    return found


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
    width = inputs[0][0] if inputs and inputs[0] else 0
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
        case ops.DropPath():
            return DropPath, {"p": op.p, "mode": op.mode, "scaled": op.scaled}
        case ops.FrozenBatchNorm():
            return FrozenBatchNorm, {"num_features": width, "eps": op.eps, "affine": op.affine}
        case ops.Aten():
            return AtenCall, {"operator": op.operator, "args": op.args, "kwargs": op.kwargs}
        case _:
            return None


def build_layer(made: Layer) -> nn.Module:
    """The torch module of a table entry."""
    cls, arguments = made
    return cls(**{key: build_layer(value) if _is_layer(value) else value for key, value in arguments.items()})


def _is_layer(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type)  # pyright: ignore
