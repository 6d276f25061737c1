"""What an op is, and the ops that moves rewrite by their attributes: convolution, linear layer, batch norm.

Each op knows its shape rule, its parameters, its width trait and the facts that moves rely on, and nothing of torch.
Moves ask for these facts and never for the class, so that a new op joins by declaring them.

Shapes leave the batch axis out:  C channels, H height, W width, F features, T tokens, K kernel, G groups.
A feature map is (C, H, W), a vector (F,); axis 0 is the width in both. Tokens are (T, F); the last axis is the width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, prod
from typing import ClassVar, Literal, Protocol

from morphs.errors import ShapeError
from morphs.graph.shapes import Pair, Shape, Sizes, feature_map, windows
from morphs.graph.traits import Axis, Param, Role, Trait

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Resized:
    """Shapes that an op is to read and write. column: of each old place along its `axis`, the new one."""

    reads: tuple[Shape, ...]
    writes: Shape
    column: Callable[[int], int]


@dataclass(frozen=True)
class Rows:
    """How an op computes its weight, row by row: from the parameter `weight` times `factor` over the row's length.

    centred: the row's mean is subtracted first, and its length is √(variance + eps); else it is the norm. factor: the
    parameter (channels, 1, …) that multiplies rows; None without one.
    """

    weight: str
    factor: str | None
    centred: bool
    eps: float


class Sliding(Protocol):
    """An op with a weight [channels, C / groups, *kernel] that slides over a padded signal, map or volume."""

    @property
    def channels(self) -> int:
        """That it writes."""
        ...

    @property
    def groups(self) -> int:
        """Of channels, each of which reads its own share of the input's."""
        ...

    @property
    def kernel(self) -> Sizes:
        """Taps along each axis."""
        ...

    @property
    def padding(self) -> Sizes:
        """On both sides of each axis."""
        ...

    @property
    def dilation(self) -> Sizes:
        """The distance of two taps along each axis."""
        ...


@dataclass(frozen=True)
class Op:
    """The interface of every op, with the answers of one that has no parameters, keeps its shape and promises nothing.

    The facts are about what it computes:  range  whether all it writes lies between the least and the largest number
    that it reads;  sign  whether it writes nothing negative where it reads nothing negative (as `range` implies).
    """

    kind: ClassVar[str]
    later: ClassVar[tuple[str, ...]] = ()  # fields that older files don't have; left out at their defaults
    causal = False  # of attention: whether a token sees only those before it
    borrows: ClassVar[tuple[str, ...]] = ()  # kinds of ops whose parameters it may use, besides its own
    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # least and most inputs
    # not annotated: some ops have a field of this name
    axis = 0  # of what it reads and writes, the one that its parameters follow
    gates = 1  # of each unit of a recurrent layer
    groups = 1  # of channels, each of which reads its own share of the input's
    trait: ClassVar[Trait] = Trait.INVARIANT
    role: ClassVar[Role] = Role.OTHER
    keeps_range: ClassVar[bool] = False
    keeps_sign: ClassVar[bool] = False
    centred: ClassVar[bool] = False  # a norm across channels that subtracts their mean
    pads_with_zeros: ClassVar[bool] = False  # zeros besides what it reads may enter what it writes
    commutes: ClassVar[bool] = False  # with any elementwise φ: it moves numbers and changes none
    commutes_with_relu: ClassVar[bool] = False  # and with ReLU6

    @property
    def width_axis(self) -> int | None:
        """Of an op that reshapes, the axis that is a width where one becomes several."""
        return None

    @property
    def permutation(self) -> tuple[int, ...]:
        """Of an op that permutes axes, which of those it reads each one is."""
        return ()

    @property
    def places(self) -> tuple[int, int]:
        """Of an op that takes some places along its axis, the first and the one after the last."""
        return (0, 0)

    @property
    def is_end(self) -> bool:
        """Whether it is an end of the network: what it reads, or what it returns."""
        return self.trait in (Trait.SOURCE, Trait.SINK)

    @property
    def whole(self) -> str | None:
        """Where it is an input of whole numbers or truth values: torch's name of their type."""
        return None

    @property
    def vocabulary(self) -> int | None:
        """Of an input that reads whole numbers, how many there are."""
        return None

    @property
    def layer(self) -> Layer | None:
        """Itself, where it is a layer: an op with a weight [width, inputs / groups, *kernel] and perhaps a bias."""
        return None

    @property
    def convolution(self) -> Conv2d | None:
        """Itself, where it is a layer that slides a kernel over a map."""
        return None

    @property
    def slides(self) -> Sliding | None:
        """Itself, where it is a convolution, of a signal, a map or a volume."""
        return None

    @property
    def norm(self) -> BatchNorm | None:
        """Itself, where it is a norm whose statistics can be fixed."""
        return None

    @property
    def multiplies(self) -> bool:
        """Whether it is a product of the two matrices along the last axes of what it reads."""
        return False

    @property
    def recurs(self) -> bool:
        """Whether it reads what it writes."""
        return False

    @property
    def rows(self) -> Rows | None:
        """How it computes its weight from parameters; None where the weight is one."""
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

    def carries(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether an op that is opaque writes the width that it reads, channel by channel."""
        return False

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Axes of an input of `rank` axes whose length can't change, since it acts across them."""
        return ()

    def evens(self, inputs: tuple[Shape, ...]) -> int:
        """Where it normalises by statistics of several channels, which stay only if each is copied equally often: in
        how many equal parts it takes them; else 0."""
        return 0

    def rescaled(self, ratio: float) -> Op | None:
        """The norm of numbers √ratio times as large that, with γ · √ratio, gives the same values; None without one."""
        return None

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """The op where it reads and writes the shapes `after` instead of those for `inputs`."""
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

    @property
    def slides(self) -> Conv2d:
        """Itself."""
        return self

    def depthwise(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether there are as many groups as input channels."""
        return self.groups == inputs[0][0] and self.groups > 1

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over."""
        return tuple(range(1, rank))

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Conv2d:
        """With other output channels; a depthwise one has as many groups as it reads channels."""
        groups = after.reads[0][0] if self.depthwise(inputs) else self.groups
        return replace(self, channels=after.writes[0], groups=groups)

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
    """Matrix product with an optional bias, on vectors, or on the last axis of tokens or maps."""

    kind: ClassVar[str] = "linear"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.LAYER
    axis: ClassVar[int] = -1
    kernel: ClassVar[Pair] = (1, 1)  # as a convolution of a map of one pixel
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

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Linear:
        """With other features."""
        return replace(self, features=after.writes[-1])

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(…, F) -> (…, features)."""
        if self.features < 1:
            raise ShapeError(f"linear has {self.features} features; at least 1 is needed")
        return (*inputs[0][:-1], self.features)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (features, F) and bias (features,)."""
        bias = {"bias": Param((self.features,), (Axis.OUT,))} if self.bias else {}
        return {"weight": Param((self.features, inputs[0][-1]), (Axis.OUT, Axis.IN), start=None), **bias}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """features · F for each vector."""
        return self.features * prod(inputs[0])


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch norm over vectors, signals (C, L), feature maps or volumes (C, D, H, W); torch's attributes."""

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

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it takes statistics over."""
        return tuple(range(1, rank))

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        if len(inputs[0]) > 4:
            raise ShapeError(f"batch_norm reads {inputs[0]}; give at most 4 axes, channels first")
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
                "num_batches_tracked": Param((), (), trainable=False, whole="int64"),
            }
        return params


Layer = Conv2d | Linear
