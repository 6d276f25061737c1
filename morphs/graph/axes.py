"""Ops that move numbers along axes, or give new ones: no arithmetic but means.

Shapes leave the batch axis out; so do the numbers of axes, which may be negative.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

from morphs.errors import ShapeError
from morphs.graph.layers import Op, Resized
from morphs.graph.shapes import Shape, axis_of, positive
from morphs.graph.tokens import DEVIATION
from morphs.graph.traits import Axis, Param, Role, Trait


@dataclass(frozen=True)
class Parameter(Op):
    """A tensor of `size`, the same for each example: positions, a class token. `axis` is its width, if any.

    source: whether it is learned, or as a buffer or constant stays what it is.
    """

    kind: ClassVar[str] = "parameter"
    later: ClassVar[tuple[str, ...]] = ("source",)
    arity: ClassVar[tuple[int, int | None]] = (0, 0)
    trait: ClassVar[Trait] = Trait.ABSORB
    size: Shape
    axis: int = -1
    source: Literal["parameter", "buffer", "constant"] = "parameter"

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The declared size."""
        positive(self.kind, *self.size)
        axis_of(self.kind, self.axis, self.size)
        return self.size

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """weight, of the declared size."""
        width = axis_of(self.kind, self.axis, self.size)
        axes = tuple(Axis.OUT if axis == width else Axis.NONE for axis in range(len(self.size)))
        trained = self.source == "parameter"
        return {"weight": Param(self.size, axes, trained, start=None, deviation=DEVIATION, any=not trained)}

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """Of another width."""
        return replace(self, size=after.writes)


@dataclass(frozen=True)
class Reshape(Op):
    """The same numbers in the same order as a tensor of `size`.

    width: where one axis becomes several, the one that counts what moves may add, such as heads; None where the axis
    that it comes from is to keep its width.
    """

    kind: ClassVar[str] = "reshape"
    trait: ClassVar[Trait] = Trait.RESHAPE
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True
    size: Shape
    width: int | None = None

    @property
    def width_axis(self) -> int | None:
        """That one."""
        return self.width

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The declared size."""
        positive(self.kind, *self.size)
        if prod(self.size) != prod(inputs[0]):
            raise ShapeError(f"reshape can't make {self.size} of {inputs[0]}; give as many numbers")
        if self.width is not None:
            axis_of(self.kind, self.width, self.size)
        return self.size

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """Of another size."""
        return replace(self, size=after.writes)


@dataclass(frozen=True)
class Permute(Op):
    """The axes in another order: axis i of what it writes is axis order[i] of what it reads."""

    kind: ClassVar[str] = "permute"
    trait: ClassVar[Trait] = Trait.PERMUTE
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True
    order: tuple[int, ...]

    @property
    def permutation(self) -> tuple[int, ...]:
        """The order."""
        return self.order

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Permuted."""
        if sorted(self.order) != list(range(len(inputs[0]))):
            raise ShapeError(f"permute has the order {self.order} for {inputs[0]}; name each axis once")
        return tuple(inputs[0][axis] for axis in self.order)


@dataclass(frozen=True)
class Slice(Op):
    """Places `start` to `stop` − 1 along one axis."""

    kind: ClassVar[str] = "slice"
    trait: ClassVar[Trait] = Trait.SLICE
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True
    start: int
    stop: int
    axis: int = -1

    @property
    def places(self) -> tuple[int, int]:
        """Start and stop."""
        return self.start, self.stop

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Shorter along the axis."""
        axis = axis_of(self.kind, self.axis, inputs[0])
        if not 0 <= self.start < self.stop <= inputs[0][axis]:
            raise ShapeError(
                f"slice takes {self.start} to {self.stop} of {inputs[0][axis]}; give places there are"
            )
        return (*inputs[0][:axis], self.stop - self.start, *inputs[0][axis + 1 :])

    def resized(self, inputs: tuple[Shape, ...], after: Resized) -> Op:
        """The same channels."""
        return replace(self, start=after.column(self.start), stop=after.column(self.stop))


@dataclass(frozen=True)
class Select(Op):
    """What is at `index` of one axis."""

    kind: ClassVar[str] = "select"
    trait: ClassVar[Trait] = Trait.DROP
    keeps_range: ClassVar[bool] = True
    commutes: ClassVar[bool] = True
    index: int
    axis: int = 0

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Without the axis."""
        axis = axis_of(self.kind, self.axis, inputs[0])
        if not -inputs[0][axis] <= self.index < inputs[0][axis]:
            raise ShapeError(f"select takes {self.index} of {inputs[0][axis]}; give a place there is")
        return kept(self.kind, inputs[0], (axis,))

    def fixes(self, rank: int) -> tuple[int, ...]:
        """That one."""
        return (self.axis % rank,)


@dataclass(frozen=True)
class Mean(Op):
    """The mean over some axes, which are gone then."""

    kind: ClassVar[str] = "mean"
    trait: ClassVar[Trait] = Trait.DROP
    role: ClassVar[Role] = Role.OTHER
    keeps_range: ClassVar[bool] = True
    axes: tuple[int, ...]

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Without the axes."""
        return kept(self.kind, inputs[0], self.axes)

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Those."""
        return tuple(axis % rank for axis in self.axes)


def kept(kind: str, shape: Shape, gone: tuple[int, ...]) -> Shape:
    """`shape` without some axes; ShapeError where they are not axes of it, or none would be left."""
    places = {axis_of(kind, axis, shape) for axis in gone}
    if not 0 < len(places) == len(gone) < len(shape):
        raise ShapeError(f"{kind} takes the axes {gone} of {shape}; name some of them, each once")
    return tuple(size for axis, size in enumerate(shape) if axis not in places)
