"""The op vocabulary: one frozen dataclass for each kind of layer, carrying *all* its attributes.

Each op knows its shape rule, its parameters, its width trait and the facts that moves rely on, and nothing of torch.
Moves ask for these facts and never for the class, so that a new op joins by declaring them.

Shapes leave the batch axis out:  C channels, H height, W width, F features, K kernel, G groups.
A feature map is (C, H, W), a vector (F,); axis 0 is the width in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, prod
from typing import ClassVar, Literal

from morphs.errors import ShapeError
from morphs.graph.shapes import Pair, Shape, adaptive, check_activation, check_pool, feature_map, windows
from morphs.graph.traits import Axis, Param, Role, Trait

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Op:
    """The interface of every op, with the answers of one that has no parameters, keeps its shape and promises nothing.

    The facts are about what it computes:  range  whether all it writes lies between the least and the largest number
    that it reads;  sign  whether it writes nothing negative where it reads nothing negative (as `range` implies).
    """

    kind: ClassVar[str]
    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # least and most inputs
    trait: ClassVar[Trait] = Trait.INVARIANT
    role: ClassVar[Role] = Role.OTHER
    keeps_range: ClassVar[bool] = False
    keeps_sign: ClassVar[bool] = False
    pads_with_zeros: ClassVar[bool] = False  # zeros besides what it reads may enter what it writes
    commutes: ClassVar[bool] = False  # with any elementwise φ: it moves numbers and changes none
    commutes_with_relu: ClassVar[bool] = False  # and with ReLU6

    @property
    def is_end(self) -> bool:
        """Whether it is an end of the network: what it reads, or what it returns."""
        return self.trait in (Trait.SOURCE, Trait.SINK)

    @property
    def layer(self) -> Layer | None:
        """Itself, where it is a layer: an op with a weight [width, inputs / groups, *kernel] and perhaps a bias."""
        return None

    @property
    def convolution(self) -> Conv2d | None:
        """Itself, where it is a layer that slides a kernel over a map."""
        return None

    @property
    def norm(self) -> BatchNorm | None:
        """Itself, where it is a norm whose statistics can be fixed."""
        return None

    @property
    def phi(self) -> str | None:
        """The activation function that it is, without anything learned."""
        return None

    @property
    def settled(self) -> Op | None:
        """The op without parameters that it is where each learned a is 0; at 1 it is then the identity."""
        return None

    def depthwise(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether it is a layer each of whose output channels reads one input channel only."""
        return False

    def resized(self, inputs: tuple[Shape, ...], reads: int, writes: int) -> Op:
        """The op where it reads and writes these widths instead of those for `inputs`."""
        return self

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Output shape for these input shapes; ShapeError when they don't fit."""
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """Parameters and buffers for these input shapes, in torch's names."""
        return {}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Multiply-adds for one image: those of convolutions and matrix products only, as is customary."""
        return 0


@dataclass(frozen=True)
class Input(Op):
    """What the network reads: a tensor of `size`, without the batch axis."""

    kind: ClassVar[str] = "input"
    arity: ClassVar[tuple[int, int | None]] = (0, 0)
    trait: ClassVar[Trait] = Trait.SOURCE
    size: Shape

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The declared size."""
        if len(self.size) not in (1, 3) or min(self.size) < 1:
            raise ShapeError(f"input size {self.size} is neither (F,) nor (C, H, W); give positive sizes")
        return self.size


@dataclass(frozen=True)
class Output(Op):
    """What the network returns; its width is fixed from outside."""

    kind: ClassVar[str] = "output"
    trait: ClassVar[Trait] = Trait.SINK


@dataclass(frozen=True)
class Conv2d(Op):
    """2-d convolution; `groups` = input channels makes it depthwise."""

    kind: ClassVar[str] = "conv2d"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.LAYER
    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    padding_mode: PaddingMode = "zeros"
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = True

    @property
    def width(self) -> int:
        """Output channels."""
        return self.channels

    @property
    def layer(self) -> Layer:
        """Itself."""
        return self

    @property
    def convolution(self) -> Conv2d:
        """Itself."""
        return self

    def with_width(self, width: int) -> Conv2d:
        """With other output channels."""
        return replace(self, channels=width)

    def depthwise(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether there are as many groups as input channels."""
        return self.groups == inputs[0][0] and self.groups > 1

    def resized(self, inputs: tuple[Shape, ...], reads: int, writes: int) -> Conv2d:
        """With other output channels; a depthwise one has as many groups as it reads channels."""
        return replace(self, channels=writes, groups=reads if self.depthwise(inputs) else self.groups)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (channels, H', W')."""
        c, h, w = feature_map(inputs[0], self.kind)
        if min(self.channels, self.groups, *self.kernel, *self.stride, *self.dilation) < 1:
            raise ShapeError(
                "conv2d has a channel count, kernel, stride, dilation or groups below 1; give 1 or more"
            )
        if c % self.groups or self.channels % self.groups:
            raise ShapeError(
                f"conv2d with groups={self.groups} can't divide {c} input or {self.channels} output channels; "
                "choose a divisor of both"
            )
        for size, pad in zip((h, w), self.padding, strict=True):
            most = {"reflect": size - 1, "circular": size}.get(self.padding_mode)
            if pad < 0 or (most is not None and pad > most):
                raise ShapeError(f"conv2d can't pad {size} pixels by {pad} in mode {self.padding_mode}")
        return (self.channels, *windows((h, w), self.kernel, self.stride, self.padding, self.dilation))

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (channels, C / groups, K, K) and bias (channels,)."""
        weight = Param(
            (self.channels, inputs[0][0] // self.groups, *self.kernel),
            (Axis.OUT, Axis.IN, Axis.NONE, Axis.NONE),
            start=None,
        )
        bias = {"bias": Param((self.channels,), (Axis.OUT,))} if self.bias else {}
        return {"weight": weight, **bias}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Output elements times the weights each one reads."""
        return prod(self.shape(inputs)) * (inputs[0][0] // self.groups) * prod(self.kernel)


@dataclass(frozen=True)
class Linear(Op):
    """Matrix product with an optional bias, on vectors."""

    kind: ClassVar[str] = "linear"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.LAYER
    kernel: ClassVar[Pair] = (1, 1)  # as a convolution of a map of one pixel
    groups: ClassVar[int] = 1
    features: int
    bias: bool = True

    @property
    def width(self) -> int:
        """Output features."""
        return self.features

    @property
    def layer(self) -> Layer:
        """Itself."""
        return self

    def with_width(self, width: int) -> Linear:
        """With other features."""
        return replace(self, features=width)

    def resized(self, inputs: tuple[Shape, ...], reads: int, writes: int) -> Linear:
        """With other features."""
        return self.with_width(writes)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(F,) -> (features,)."""
        if len(inputs[0]) != 1:
            raise ShapeError(f"linear reads {inputs[0]}, which is not a vector; put a flatten before it")
        if self.features < 1:
            raise ShapeError(f"linear has {self.features} features; at least 1 is needed")
        return (self.features,)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (features, F) and bias (features,)."""
        bias = {"bias": Param((self.features,), (Axis.OUT,))} if self.bias else {}
        return {"weight": Param((self.features, inputs[0][0]), (Axis.OUT, Axis.IN), start=None), **bias}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """features · F."""
        return self.features * inputs[0][0]


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch norm over vectors or feature maps, torch's attributes."""

    kind: ClassVar[str] = "batch_norm"
    role: ClassVar[Role] = Role.NORM
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True

    @property
    def norm(self) -> BatchNorm:
        """Itself."""
        return self

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        if not 0 < self.eps < inf or not (self.momentum is None or 0 <= self.momentum <= 1):
            raise ShapeError(
                f"batch_norm has eps {self.eps}, momentum {self.momentum}; give a positive eps, a momentum of 0 to 1"
            )
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """γ (weight), β (bias), running mean and variance, the count of batches."""
        one = Param((inputs[0][0],), (Axis.OUT,), start=1.0)
        params = {"weight": one, "bias": replace(one, start=0.0)} if self.affine else {}
        if self.track_running_stats:
            params |= {
                "running_mean": replace(one, start=0.0, trainable=False),
                "running_var": replace(one, trainable=False),
                "num_batches_tracked": Param((), (), trainable=False, counts=True),
            }
        return params


@dataclass(frozen=True)
class Activation(Op):
    """φ, elementwise: a name of `ACTIVATIONS`, with the values of its arguments in their order."""

    kind: ClassVar[str] = "activation"
    role: ClassVar[Role] = Role.ACTIVATION
    fn: str
    args: tuple[float, ...] = ()

    @property
    def phi(self) -> str:
        """Its function."""
        return self.fn

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        check_activation(self.fn, self.args)
        return inputs[0]


@dataclass(frozen=True)
class PActivation(Op):
    """The P-activation (1 − a)·φ(x) + a·x of Network Morphism, equation 9; a is learned, within [0, 1].

    One a for the layer, or one for each channel.
    """

    kind: ClassVar[str] = "p_activation"
    role: ClassVar[Role] = Role.ACTIVATION
    fn: str
    args: tuple[float, ...] = ()
    per_channel: bool = False

    @property
    def settled(self) -> Activation:
        """φ itself."""
        return Activation(self.fn, self.args)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        check_activation(self.fn, self.args)
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """a: () or (C,)."""
        return {"a": per_channel(inputs[0], self.per_channel)}


@dataclass(frozen=True)
class Scale(Op):
    """Multiplication by a learned factor: one for the layer, or one for each channel."""

    kind: ClassVar[str] = "scale"
    role: ClassVar[Role] = Role.FACTOR
    per_channel: bool = True

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight: () or (C,)."""
        return {"weight": per_channel(inputs[0], self.per_channel, start=1.0)}


@dataclass(frozen=True)
class Lerp(Op):
    """The convex combination (1 − a)·x + a·y of two tensors of one shape; a is learned, within [0, 1].

    One a for the layer, or one for each channel.
    """

    kind: ClassVar[str] = "lerp"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    trait: ClassVar[Trait] = Trait.TIE
    role: ClassVar[Role] = Role.BLEND
    keeps_range: ClassVar[bool] = True
    per_channel: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The common shape."""
        if len(set(inputs)) != 1:
            raise ShapeError(f"lerp reads different shapes {', '.join(map(str, inputs))}; make them equal")
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """a: () or (C,)."""
        return {"a": per_channel(inputs[0], self.per_channel)}


@dataclass(frozen=True)
class MaxPool2d(Op):
    """Maximum over windows."""

    kind: ClassVar[str] = "max_pool2d"
    role: ClassVar[Role] = Role.POOL
    keeps_range: ClassVar[bool] = True
    commutes_with_relu: ClassVar[bool] = True
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C, H', W')."""
        c, h, w = feature_map(inputs[0], self.kind)
        check_pool(self.kernel, self.stride, self.padding, self.dilation)
        return (c, *windows((h, w), self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode))


@dataclass(frozen=True)
class AvgPool2d(Op):
    """Mean over windows."""

    kind: ClassVar[str] = "avg_pool2d"
    role: ClassVar[Role] = Role.POOL
    keeps_range: ClassVar[bool] = True
    pads_with_zeros: ClassVar[bool] = True
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C, H', W')."""
        c, h, w = feature_map(inputs[0], self.kind)
        check_pool(self.kernel, self.stride, self.padding, (1, 1))
        return (c, *windows((h, w), self.kernel, self.stride, self.padding, (1, 1), self.ceil_mode))


@dataclass(frozen=True)
class AdaptiveAvgPool2d(Op):
    """Mean over as many windows as `size` says."""

    kind: ClassVar[str] = "adaptive_avg_pool2d"
    keeps_range: ClassVar[bool] = True
    size: Pair = (1, 1)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C, *size)."""
        return adaptive(inputs[0], self.size, self.kind)


@dataclass(frozen=True)
class AdaptiveMaxPool2d(Op):
    """Maximum over as many windows as `size` says."""

    kind: ClassVar[str] = "adaptive_max_pool2d"
    keeps_range: ClassVar[bool] = True
    commutes_with_relu: ClassVar[bool] = True
    size: Pair = (1, 1)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C, *size)."""
        return adaptive(inputs[0], self.size, self.kind)


@dataclass(frozen=True)
class Flatten(Op):
    """Feature map to vector; channel c becomes columns c·H·W to (c+1)·H·W − 1."""

    kind: ClassVar[str] = "flatten"
    trait: ClassVar[Trait] = Trait.FLATTEN
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C·H·W,)."""
        return (prod(inputs[0]),)


@dataclass(frozen=True)
class Dropout(Op):
    """Dropout of single elements with probability p."""

    kind: ClassVar[str] = "dropout"
    role: ClassVar[Role] = Role.DROPOUT
    keeps_sign: ClassVar[bool] = True
    commutes_with_relu: ClassVar[bool] = True
    p: float = 0.5

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        if not 0 <= self.p <= 1:
            raise ShapeError(f"dropout has probability {self.p}; give a number from 0 to 1")
        return inputs[0]


@dataclass(frozen=True)
class Add(Op):
    """Sum of two or more tensors of one shape."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[tuple[int, int | None]] = (2, None)
    trait: ClassVar[Trait] = Trait.TIE
    role: ClassVar[Role] = Role.SUM
    keeps_sign: ClassVar[bool] = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The common shape."""
        if len(set(inputs)) != 1:
            raise ShapeError(f"add reads different shapes {', '.join(map(str, inputs))}; make them equal")
        return inputs[0]


@dataclass(frozen=True)
class Multiply(Op):
    """Product of two or more tensors; an axis of length 1 is broadcast, as in squeeze-and-excitation."""

    kind: ClassVar[str] = "multiply"
    arity: ClassVar[tuple[int, int | None]] = (2, None)
    trait: ClassVar[Trait] = Trait.TIE
    role: ClassVar[Role] = Role.PRODUCT
    keeps_sign: ClassVar[bool] = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The broadcast shape."""
        rank = len(inputs[0])
        if any(len(shape) != rank for shape in inputs):
            raise ShapeError(
                f"multiply reads {', '.join(map(str, inputs))}, which differ in rank; make them alike"
            )
        widest = tuple(max(axis) for axis in zip(*inputs, strict=True))
        if any(n not in (1, most) for shape in inputs for n, most in zip(shape, widest, strict=True)):
            raise ShapeError(
                f"multiply can't broadcast {', '.join(map(str, inputs))} to {widest}; make each size equal or 1"
            )
        return widest


@dataclass(frozen=True)
class Concat(Op):
    """Tensors one after the other along the width."""

    kind: ClassVar[str] = "concat"
    arity: ClassVar[tuple[int, int | None]] = (1, None)
    trait: ClassVar[Trait] = Trait.STACK
    role: ClassVar[Role] = Role.CONCAT
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Sum of the widths; the other axes must agree."""
        if len({shape[1:] for shape in inputs}) != 1:
            raise ShapeError(
                f"concat reads {', '.join(map(str, inputs))}, which differ beyond the width; make the rest equal"
            )
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])


OPS: tuple[type[Op], ...] = (
    Input, Output, Conv2d, Linear, BatchNorm, Activation, PActivation, Scale, Lerp, MaxPool2d, AvgPool2d,
    AdaptiveAvgPool2d, AdaptiveMaxPool2d, Flatten, Dropout, Add, Multiply, Concat,
)  # fmt: skip


Layer = Conv2d | Linear


def per_channel(shape: Shape, per_channel: bool, start: float = 0.0) -> Param:
    """A learned factor: (C,) or a scalar."""
    return Param((shape[0],), (Axis.OUT,), start=start) if per_channel else Param((), (), start=start)
