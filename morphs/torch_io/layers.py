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
from morphs.torch_io.aten_call import AtenCall
from morphs.torch_io.frozen import FrozenBatchNorm, HeldBatchNorm


class PActivation(nn.Module):
    """(1 - a) * phi(x) + a * x with a learned `a` in [0, 1]; a = 1 is the identity, a = 0 is phi.

    `a` is one number or one for each channel. Keep it in range by calling `project_` after each step.
    axis: the channels' axis, the batch not counted.
    """

    def __init__(self, phi: nn.Module, channels: int | None = None, axis: int = 0) -> None:
        super().__init__()
        self.phi = phi
        self.axis = axis
        self.a = nn.Parameter(torch.ones(()) if channels is None else torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        a = self.a.to(x.dtype)
        after = -1 - self.axis if self.axis < 0 else x.dim() - 2 - self.axis
        if isinstance(self.phi, nn.ReLU) and (a.dim() == 0 or after == x.dim() - 2):  # the same, in one pass
            return nn.functional.prelu(x, a.reshape(-1))
        a = a.reshape([-1] + [1] * after)
        return (1 - a) * self.phi(x) + a * x

    def project_(self) -> None:
        """Clamp a to [0, 1]."""
        with torch.no_grad():
            self.a.clamp_(0, 1)


class Scale(nn.Module):
    """weight * x with one learned factor, or one for each channel along `axis`, the batch not counted."""

    def __init__(self, channels: int | None = None, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(()) if channels is None else torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as x (N, C, ...)."""
        after = -1 - self.axis if self.axis < 0 else x.dim() - 2 - self.axis
        return self.weight.to(x.dtype).reshape([-1] + [1] * after) * x


class Lerp(nn.Module):
    """(1 - a) * x + a * y with a learned `a` in [0, 1], one number or one for each channel.

    Keep it in range by calling `project_` after each step. axis: the channels' axis, the batch not counted.
    """

    def __init__(self, channels: int | None = None, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis
        self.a = nn.Parameter(torch.zeros(()) if channels is None else torch.zeros(channels))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The same shape as x and y (N, C, ...)."""
        after = -1 - self.axis if self.axis < 0 else x.dim() - 2 - self.axis
        a = self.a.to(x.dtype).reshape([-1] + [1] * after)
        return (1 - a) * x + a * y

    def project_(self) -> None:
        """Clamp a to [0, 1]."""
        with torch.no_grad():
            self.a.clamp_(0, 1)


class Attention(nn.Module):
    """softmax(scale * q k^T) v for q (N, H, T, D), k (N, H', S, D), v (N, H', S, D'), perhaps a mask (N, T, S)."""

    def __init__(self, causal: bool = False, scale: float | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal, self.scale = causal, scale
        self.dropout = nn.Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, H, T, D')."""
        return nn.functional.scaled_dot_product_attention(
            q, k, v, None if mask is None else mask.unsqueeze(1), is_causal=self.causal, scale=self.scale,
            dropout_p=self.dropout.p if self.dropout.training else 0.0, enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip


class Projection(nn.Module):
    """x @ weight + bias, the weight being (inputs, features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, …, features) of x (N, …, F)."""
        y = torch.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


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
    """Tensors one after the other along an axis, the batch being axis 0."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *parts: Tensor) -> Tensor:
        """The same shape but along the axis, where sizes add up."""
        return torch.cat(parts, self.axis)


class Method(nn.Module):
    """A method of a tensor that reads no other tensor."""

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.method_name, self.method_arguments = name, arguments

    def forward(self, x: Tensor) -> Tensor:
        """What the method returns."""
        return getattr(x, self.method_name)(*self.method_arguments)

    def extra_repr(self) -> str:
        """Name and arguments."""
        return f"{self.method_name}, {self.method_arguments}"


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
            return nn.Linear, {"in_features": inputs[0][-1], "out_features": op.features, "bias": op.bias}
        case ops.BatchNorm():
            return (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[len(inputs[0]) - 1], {
                "num_features": width, "eps": op.eps, "momentum": op.momentum, "affine": op.affine,
                "track_running_stats": op.track_running_stats,
            }  # fmt: skip
        case ops.Activation():
            return activation_layer(op.fn, op.args)
        case ops.PActivation():
            phi = activation_layer(op.fn, op.args)
            return PActivation, {"phi": phi, **_per_channel(op, inputs)}
        case ops.Scale():
            return Scale, _per_channel(op, inputs)
        case ops.Lerp():
            return Lerp, _per_channel(op, inputs)
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
        case ops.FrozenBatchNorm(trained=False):
            return HeldBatchNorm, {"num_features": width, "eps": op.eps}
        case ops.FrozenBatchNorm():
            return FrozenBatchNorm, {"num_features": width, "eps": op.eps, "affine": op.affine}
        case ops.Aten():
            return AtenCall, {"operator": op.operator, "args": op.args, "kwargs": op.kwargs}
        case _:
            return _token_layer(op, inputs) or _spatial_layer(op, inputs)


def _per_channel(op: ops.PActivation | ops.Scale | ops.Lerp, inputs: tuple[Shape, ...]) -> dict[str, Any]:
    return {"channels": inputs[0][op.axis], "axis": op.axis} if op.per_channel else {}


def _token_layer(op: Op, inputs: tuple[Shape, ...]) -> Layer | None:
    match op:
        case ops.Embedding():
            named = {"num_embeddings": op.count, "embedding_dim": op.features, "padding_idx": op.padding}
            return nn.Embedding, named
        case ops.Unembedding():
            return nn.Linear, {"in_features": inputs[0][-1], "out_features": op.count, "bias": False}
        case ops.Projection():
            return Projection, {"in_features": inputs[0][-1], "out_features": op.features, "bias": op.bias}
        case ops.LayerNorm():
            named = {"elementwise_affine": op.affine, "bias": op.bias}
            return nn.LayerNorm, {"normalized_shape": inputs[0][-1], "eps": op.eps, **named}
        case ops.RMSNorm():
            return nn.RMSNorm, {
                "normalized_shape": inputs[0][-1], "eps": op.eps, "elementwise_affine": op.affine
            }  # fmt: skip
        case ops.GroupNorm():
            named = {"num_groups": op.parts, "num_channels": inputs[0][0]}
            return nn.GroupNorm, {**named, "eps": op.eps, "affine": op.affine}
        case ops.InstanceNorm():
            kind = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[len(inputs[0]) - 2]
            return kind, {"num_features": inputs[0][0], "eps": op.eps, "affine": op.affine}
        case ops.Recurrent():
            return _recurrent(op, inputs[0][-1])
        case ops.Attention():
            return Attention, {"causal": op.causal, "scale": op.scale, "dropout": op.dropout}
        case _:
            return None


def _recurrent(op: ops.Recurrent, inputs: int) -> Layer:
    kinds: dict[str, type[nn.Module]] = {"lstm": nn.LSTM, "gru": nn.GRU}
    unusual = {"num_layers": op.layers, "bias": op.bias, "dropout": op.dropout, "nonlinearity": op.cell}
    usual = {
        "num_layers": 1,
        "bias": True,
        "dropout": 0.0,
        "nonlinearity": "tanh" if op.cell not in kinds else op.cell,
    }
    named = {key: value for key, value in unusual.items() if value != usual[key]}
    sizes = {"input_size": inputs, "hidden_size": op.features, "batch_first": True}
    return kinds.get(op.cell, nn.RNN), {**sizes, **named}


def _spatial_layer(op: Op, inputs: tuple[Shape, ...]) -> Layer | None:
    rank = len(inputs[0]) - 1 if inputs else 0
    match op:
        case ops.Conv():
            return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1], {
                "in_channels": inputs[0][0], "out_channels": op.channels, "kernel_size": op.kernel, "stride": op.stride,
                "padding": op.padding, "dilation": op.dilation, "groups": op.groups, "bias": op.bias,
                "padding_mode": op.padding_mode,
            }  # fmt: skip
        case ops.ConvTranspose():
            return (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1], {
                "in_channels": inputs[0][0], "out_channels": op.channels, "kernel_size": op.kernel, "stride": op.stride,
                "padding": op.padding, "output_padding": op.output_padding, "groups": op.groups, "bias": op.bias,
                "dilation": op.dilation,
            }  # fmt: skip
        case ops.Pool():
            kinds = {"max": (nn.MaxPool1d, nn.MaxPool3d), "avg": (nn.AvgPool1d, nn.AvgPool3d)}[op.how]
            named = {"kernel_size": op.kernel, "stride": op.stride, "padding": op.padding}
            return kinds[rank > 1], {**named, "ceil_mode": op.ceil_mode}
        case _:
            return None


def method(op: Op) -> tuple[str, tuple[Any, ...]] | None:
    """Name and arguments of the tensor's method that an op without parameters is; None for others."""

    def axis(place: int) -> int:  # the batch comes first
        return place if place < 0 else place + 1

    match op:
        case ops.Reshape():
            return "reshape", (-1, *op.size)
        case ops.Permute():
            return "permute", (0, *(place + 1 for place in op.order))
        case ops.Slice():
            return "narrow", (axis(op.axis), op.start, op.stop - op.start)
        case ops.Select():
            return "select", (axis(op.axis), op.index)
        case ops.Mean():
            return "mean", (tuple(axis(place) for place in op.axes),)
        case _:
            return None


def build_layer(made: Layer) -> nn.Module:
    """The torch module of a table entry."""
    cls, arguments = made
    return cls(**{key: build_layer(value) if _is_layer(value) else value for key, value in arguments.items()})


def _is_layer(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], type)  # pyright: ignore
