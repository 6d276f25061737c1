"""Convolutions and pools of signals (C, L) and volumes (C, D, H, W), and transposed convolutions of any of them.

Those of maps (C, H, W), but for the transposed ones, have ops of their own, which more moves know. Fields that hold
one number for each spatial axis may be left empty, which means the usual one for each.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

from morphs.errors import ShapeError
from morphs.graph.layers import Op, PaddingMode, Resized
from morphs.graph.shapes import Shape, Sizes, positive, window_count
from morphs.graph.traits import Axis, Param, Role, Trait


@dataclass(frozen=True)
class Conv(Op):
    """1-d or 3-d convolution; `groups` = input channels makes it depthwise."""

    kind: ClassVar[str] = "conv"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.LAYER
    channels: int
    kernel: Sizes
    stride: Sizes = ()
    padding: Sizes = ()
    padding_mode: PaddingMode = "zeros"
    dilation: Sizes = ()
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        fill_sizes(self, stride=1, padding=0, dilation=1)

    @property
    def slides(self) -> "Conv":
        """Itself."""
        return self

    def depthwise(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether there are as many groups as input channels."""
        return self.groups == inputs[0][0] and self.groups > 1

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over, but for those on which it does the same at each place."""
        along = zip(self.kernel, self.stride, self.padding, strict=True)
        return tuple(axis for axis, each in enumerate(along, 1) if each != (1, 1, 0))

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With other output channels; a depthwise one has as many groups as it reads channels."""
        groups = after.reads[0][0] if self.depthwise(inputs) else self.groups
        return replace(self, channels=after.writes[0], groups=groups)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, *sizes) -> (channels, *sizes')."""
        channels, *sizes = _spatial(
            self.kind, inputs[0], (1, 3), self.kernel, self.stride, self.padding, self.dilation
        )
        positive(self.kind, self.channels, self.groups, *self.kernel, *self.stride, *self.dilation)
        _divide(self.kind, self.groups, channels, self.channels)
        for size, pad in zip(sizes, self.padding, strict=True):
            most = {"reflect": size - 1, "circular": size}.get(self.padding_mode)
            if pad < 0 or (most is not None and pad > most):
                raise ShapeError(f"conv can't pad {size} places by {pad} in mode {self.padding_mode}")
        along = zip(sizes, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return (self.channels, *(window_count(*each) for each in along))

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (channels, C / groups, *kernel) and bias (channels,)."""
        shape = (self.channels, inputs[0][0] // self.groups, *self.kernel)
        axes = (Axis.OUT, Axis.IN, *(Axis.NONE for _ in self.kernel))
        bias = {"bias": Param((self.channels,), (Axis.OUT,))} if self.bias else {}
        return {"weight": Param(shape, axes, start=None), **bias}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Output elements times the weights each one reads."""
        return prod(self.shape(inputs)) * (inputs[0][0] // self.groups) * prod(self.kernel)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """Transposed convolution of a signal, map or volume. With groups its widths are fixed."""

    kind: ClassVar[str] = "conv_transpose"
    trait: ClassVar[Trait] = Trait.ABSORB
    role: ClassVar[Role] = Role.LAYER
    channels: int
    kernel: Sizes
    stride: Sizes = ()
    padding: Sizes = ()
    output_padding: Sizes = ()
    dilation: Sizes = ()
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        fill_sizes(self, stride=1, padding=0, output_padding=0, dilation=1)

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over; with groups the channels as well."""
        return tuple(range(0 if self.groups > 1 else 1, rank))

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With other output channels."""
        return replace(self, channels=after.writes[0])

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, *sizes) -> (channels, *sizes')."""
        given = (self.kernel, self.stride, self.padding, self.output_padding, self.dilation)
        channels, *sizes = _spatial(self.kind, inputs[0], (1, 2, 3), *given)
        positive(self.kind, self.channels, self.groups, *self.kernel, *self.stride, *self.dilation)
        _divide(self.kind, self.groups, channels, self.channels)
        along = [
            (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
            for n, k, s, p, extra, d in zip(sizes, *given, strict=True)
        ]
        small = all(0 <= e < max(s, d) for e, s, d in zip(*given[3:0:-2], self.dilation, strict=True))
        if min(along) < 1 or min(self.padding) < 0 or not small:
            raise ShapeError(
                f"conv_transpose can't make a map of {inputs[0]} with these paddings; give smaller ones"
            )
        return (self.channels, *along)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight (C, channels / groups, *kernel) and bias (channels,)."""
        shape = (inputs[0][0], self.channels // self.groups, *self.kernel)
        axes = (Axis.IN, Axis.OUT, *(Axis.NONE for _ in self.kernel))
        bias = {"bias": Param((self.channels,), (Axis.OUT,))} if self.bias else {}
        return {"weight": Param(shape, axes, start=None), **bias}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Input elements times the weights each one meets."""
        return prod(inputs[0]) * (self.channels // self.groups) * prod(self.kernel)


@dataclass(frozen=True)
class Pool(Op):
    """Maximum or mean over the windows of a signal or a volume."""

    kind: ClassVar[str] = "pool"
    role: ClassVar[Role] = Role.POOL
    keeps_range: ClassVar[bool] = True
    pads_with_zeros: ClassVar[bool] = True
    how: Literal["max", "avg"]
    kernel: Sizes
    stride: Sizes
    padding: Sizes = ()
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        fill_sizes(self, padding=0)

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over."""
        return tuple(range(1, rank))

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """(C, *sizes) -> (C, *sizes')."""
        channels, *sizes = _spatial(self.kind, inputs[0], (1, 3), self.kernel, self.stride, self.padding)
        positive(self.kind, *self.kernel, *self.stride)
        if any(not 0 <= 2 * p <= k for k, p in zip(self.kernel, self.padding, strict=True)):
            raise ShapeError(f"pool pads {self.padding}; give 0 to half of its window {self.kernel}")
        along = zip(sizes, self.kernel, self.stride, self.padding, strict=True)
        return (channels, *(window_count(n, k, s, p, 1, self.ceil_mode) for n, k, s, p in along))


def fill_sizes(op: Op, **usual: int) -> None:
    """Give fields that were left empty the usual number for each spatial axis."""
    for name, value in usual.items():
        if getattr(op, name) == ():
            object.__setattr__(op, name, (value,) * len(getattr(op, "kernel")))  # noqa: B009 (of several ops)


def _spatial(kind: str, shape: Shape, ranks: tuple[int, ...], *given: Sizes) -> Shape:
    """`shape`, where it has so many spatial axes and each field a number for each of them; else ShapeError."""
    if len(shape) - 1 not in ranks or any(len(sizes) != len(shape) - 1 for sizes in given):
        allowed = " or ".join(map(str, ranks))
        raise ShapeError(
            f"{kind} reads {shape}; give {allowed} axes after the channels, and a number for each"
        )
    return shape


def _divide(kind: str, groups: int, *channels: int) -> None:
    if any(count % groups for count in channels):
        raise ShapeError(
            f"{kind} can't divide {channels} channels by {groups} groups; choose a divisor of both"
        )
