"""The op vocabulary: one frozen dataclass for each kind of layer, carrying *all* its attributes.

Shapes leave the batch axis out:  C channels, H height, W width, F features, T tokens.
A feature map is (C, H, W), a vector (F,); axis 0 is the width in both. Tokens are (T, F); the last axis is the width.
"""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from morphs.errors import ShapeError
from morphs.graph.aten import Aten, DropPath, FrozenBatchNorm, Held, Outputs
from morphs.graph.axes import Mean, Parameter, Permute, Reshape, Select, Slice
from morphs.graph.layers import BatchNorm, Conv2d, Linear, Op
from morphs.graph.layers import Layer as Layer  # for those who import the vocabulary
from morphs.graph.layers import PaddingMode as PaddingMode
from morphs.graph.layers import Resized as Resized
from morphs.graph.layers import Sliding as Sliding
from morphs.graph.normed import NormedLayer
from morphs.graph.recurrent import Recurrent
from morphs.graph.shapes import Pair, Shape, adaptive, axis_of, check_activation, pooled
from morphs.graph.shapes import Sizes as Sizes
from morphs.graph.spatial import Conv, ConvTranspose, Pool
from morphs.graph.tokens import (
    Attention,
    Embedding,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Projection,
    RMSNorm,
    Unembedding,
)
from morphs.graph.traits import Axis, Param, Role, Trait

WHOLE = ("bool", "uint8", "int8", "int16", "int32", "int64")
"""Torch's names of types of whole numbers and truth values."""


@dataclass(frozen=True)
class Input(Op):
    """What the network reads: a tensor of `size`, without the batch axis; of whole numbers below `tokens`, if given.

    dtype: "float" for the type of the network's weights, or torch's name of a type of whole numbers or truth values.
    """

    kind: ClassVar[str] = "input"
    later: ClassVar[tuple[str, ...]] = ("tokens", "dtype")
    arity: ClassVar[tuple[int, int | None]] = (0, 0)
    trait: ClassVar[Trait] = Trait.SOURCE
    size: Shape
    tokens: int | None = None
    dtype: str = "float"

    @property
    def whole(self) -> str | None:
        """As declared; tokens have 64 bits."""
        return "int64" if self.tokens is not None else None if self.dtype == "float" else self.dtype

    @property
    def vocabulary(self) -> int | None:
        """As declared."""
        return self.tokens

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The declared size."""
        if min(self.size, default=1) < 1:
            raise ShapeError(f"input size {self.size} has a number below 1; give positive sizes")
        if self.tokens is not None and self.tokens < 1:
            raise ShapeError(f"input has {self.tokens} tokens; give a number of at least 1")
        if self.dtype not in ("float", *WHOLE) or (self.dtype != "float" and self.tokens is not None):
            raise ShapeError(
                f'input has the type "{self.dtype}"; give tokens alone, float, or one of {", ".join(WHOLE)}'
            )
        return self.size


@dataclass(frozen=True)
class Output(Op):
    """What the network returns; its width is fixed from outside."""

    kind: ClassVar[str] = "output"
    trait: ClassVar[Trait] = Trait.SINK


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

    One a for the layer, or one for each channel along `axis`.
    """

    kind: ClassVar[str] = "p_activation"
    later: ClassVar[tuple[str, ...]] = ("axis",)
    role: ClassVar[Role] = Role.ACTIVATION
    fn: str
    args: tuple[float, ...] = ()
    per_channel: bool = False
    axis: int = 0

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
        return {"a": per_channel(self, inputs[0], self.per_channel)}


@dataclass(frozen=True)
class Scale(Op):
    """Multiplication by a learned factor: one for the layer, or one for each channel along `axis`."""

    kind: ClassVar[str] = "scale"
    later: ClassVar[tuple[str, ...]] = ("axis",)
    role: ClassVar[Role] = Role.FACTOR
    per_channel: bool = True
    axis: int = 0

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight: () or (C,)."""
        return {"weight": per_channel(self, inputs[0], self.per_channel, start=1.0)}


@dataclass(frozen=True)
class Lerp(Op):
    """The convex combination (1 − a)·x + a·y of two tensors of one shape; a is learned, within [0, 1].

    One a for the layer, or one for each channel along `axis`.
    """

    kind: ClassVar[str] = "lerp"
    later: ClassVar[tuple[str, ...]] = ("axis",)
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    trait: ClassVar[Trait] = Trait.TIE
    role: ClassVar[Role] = Role.BLEND
    keeps_range: ClassVar[bool] = True
    per_channel: bool = True
    axis: int = 0

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The common shape."""
        if len(set(inputs)) != 1:
            raise ShapeError(f"lerp reads different shapes {', '.join(map(str, inputs))}; make them equal")
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """a: () or (C,)."""
        return {"a": per_channel(self, inputs[0], self.per_channel)}


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

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over."""
        return tuple(range(1, rank))

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C, H', W')."""
        window = (self.kernel, self.stride, self.padding, self.dilation)
        return pooled(inputs[0], self.kind, *window, self.ceil_mode)


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

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over."""
        return tuple(range(1, rank))

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, H, W) -> (C, H', W')."""
        return pooled(inputs[0], self.kind, self.kernel, self.stride, self.padding, (1, 1), self.ceil_mode)


@dataclass(frozen=True)
class AdaptiveAvgPool2d(Op):
    """Mean over as many windows as `size` says."""

    kind: ClassVar[str] = "adaptive_avg_pool2d"
    keeps_range: ClassVar[bool] = True
    size: Pair = (1, 1)

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over."""
        return tuple(range(1, rank))

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

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over."""
        return tuple(range(1, rank))

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
                f"multiply reads {', '.join(map(str, inputs))}, which differ in rank; make them equal"
            )
        widest = tuple(max(axis) for axis in zip(*inputs, strict=True))
        if any(n not in (1, most) for shape in inputs for n, most in zip(shape, widest, strict=True)):
            raise ShapeError(
                f"multiply can't broadcast {', '.join(map(str, inputs))} to {widest}; make each size equal or 1"
            )
        return widest


@dataclass(frozen=True)
class Concat(Op):
    """Tensors one after the other along one axis, the width by default."""

    kind: ClassVar[str] = "concat"
    later: ClassVar[tuple[str, ...]] = ("axis",)
    arity: ClassVar[tuple[int, int | None]] = (1, None)
    trait: ClassVar[Trait] = Trait.STACK
    role: ClassVar[Role] = Role.CONCAT
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True
    axis: int = 0

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Sum of the widths; the other axes must agree."""
        axis = axis_of(self.kind, self.axis, inputs[0])
        if len({(len(shape), shape[:axis], shape[axis + 1 :]) for shape in inputs}) != 1:
            raise ShapeError(
                f"concat reads {', '.join(map(str, inputs))}, which differ beyond the width; make the rest equal"
            )
        return (*inputs[0][:axis], sum(shape[axis] for shape in inputs), *inputs[0][axis + 1 :])


def per_channel(op: Op, shape: Shape, per_channel: bool, start: float = 0.0) -> Param:
    """A learned factor: (C,) or a scalar."""
    width = shape[axis_of(op.kind, op.axis, shape)]
    return Param((width,), (Axis.OUT,), start=start) if per_channel else Param((), (), start=start)


OPS: tuple[type[Op], ...] = (
    Input, Output, Conv2d, Linear, BatchNorm, Activation, PActivation, Scale, Lerp, MaxPool2d, AvgPool2d,
    AdaptiveAvgPool2d, AdaptiveMaxPool2d, Flatten, Dropout, Add, Multiply, Concat, Conv, ConvTranspose, Pool,
    Embedding, Unembedding, Projection, LayerNorm, RMSNorm, GroupNorm, Attention, Parameter, Reshape, Permute, Slice,
    Select, Mean, Aten, Held, Outputs, DropPath, FrozenBatchNorm, InstanceNorm, NormedLayer, Recurrent,
)  # fmt: skip
