"""Layers that compute their weight from parameters before they use it: weight norm and weight standardisation."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from morphs.errors import ShapeError
from morphs.graph.layers import Conv2d, Linear, Op, Resized, Rows
from morphs.graph.shapes import Shape, Sizes
from morphs.graph.spatial import Conv, fill_sizes
from morphs.graph.tokens import check_eps
from morphs.graph.traits import Axis, Param, Trait


@dataclass(frozen=True)
class NormedLayer(Op):
    """A linear layer (an empty kernel) or a convolution of a signal, map or volume, whose weight is computed.

    how="norm": each row of the weight is g · v / ‖v‖ (weight norm, arXiv 1602.07868). how="standard": it is
    g · scale · (v − mean) / √(variance + eps), over the row (weight standardisation, arXiv 1903.10520), without g
    where `gain` is false; what it reads then keeps its width, since nothing could take up another length.
    """

    kind: ClassVar[str] = "normed_layer"
    trait: ClassVar[Trait] = Trait.ABSORB
    channels: int
    kernel: Sizes = ()
    stride: Sizes = ()
    padding: Sizes = ()
    dilation: Sizes = ()
    groups: int = 1
    bias: bool = True
    how: Literal["norm", "standard"] = "norm"
    gain: bool = True
    scale: float = 1.0
    eps: float = 0.0

    def __post_init__(self) -> None:
        fill_sizes(self, stride=1, padding=0, dilation=1)

    @property
    def axis(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]  # a constant of most ops
        """The first of a map, the last of tokens."""
        return 0 if self.kernel else -1

    @property
    def rows(self) -> Rows | None:
        """The lengths of its rows."""
        standard = self.how == "standard"
        return Rows("v", "g" if self.gain else None, standard, self.eps if standard else 0.0)

    def depthwise(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether there are as many groups as input channels."""
        return self.groups == inputs[0][0] and self.groups > 1

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those it slides over; without a gain the channels as well."""
        if not self.kernel:
            return () if self.gain else (rank - 1,)
        return tuple(range(1 if self.gain else 0, rank))

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """With other output channels; a depthwise one has as many groups as it reads channels."""
        groups = after.reads[0][0] if self.depthwise(inputs) else self.groups
        return replace(self, channels=after.writes[self.axis], groups=groups)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """That of the layer with a weight of its own."""
        if self.how == "standard":
            check_eps(self.kind, self.eps)
        elif not self.gain or self.eps or self.scale != 1:
            raise ShapeError("normed_layer has how=norm; leave gain, scale and eps as they are")
        if not self.kernel and self.groups != 1:
            raise ShapeError("normed_layer has groups and no kernel; give one of them")
        return self._plain().shape(inputs)

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """v, as the weight of the plain layer; g (channels, 1, …); bias (channels,)."""
        plain = self._plain().params(inputs)
        v, ones = plain.pop("weight"), len(self.kernel) + 1
        g = Param((self.channels, *(1,) * ones), (Axis.OUT, *(Axis.NONE,) * ones), start=1.0)
        return {**({"g": g} if self.gain else {}), "v": v, **plain}

    def macs(self, inputs: tuple[Shape, ...]) -> int:
        """Those of the plain layer."""
        return self._plain().macs(inputs)

    def _plain(self) -> Op:
        if not self.kernel:
            return Linear(self.channels, self.bias)
        sizes: Any = self.kernel, self.stride, self.padding
        kind: Any = Conv2d if len(self.kernel) == 2 else Conv
        return kind(self.channels, *sizes, dilation=self.dilation, groups=self.groups, bias=self.bias)
