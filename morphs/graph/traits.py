"""How an op's widths relate, and what a parameter's axes follow."""

from dataclasses import dataclass
from enum import Enum

from morphs.graph.shapes import Shape


class Trait(Enum):
    """How an op's output width relates to its input's (after NaiveNASlib's width traits)."""

    SOURCE = "source"  # a width of its own, given from outside
    ABSORB = "absorb"  # reads any width, writes a width of its own
    INVARIANT = "invariant"  # writes the width it reads
    TIE = "tie"  # all inputs and the output have one width
    STACK = "stack"  # widths follow one another
    FLATTEN = "flatten"  # each channel becomes H·W consecutive columns
    SINK = "sink"  # the width is fixed from outside


class Axis(Enum):
    """Which width an axis of a parameter follows."""

    OUT = "out"  # the node's output width
    IN = "in"  # the node's input width (for a grouped convolution: one group's share)
    NONE = "none"  # neither


@dataclass(frozen=True)
class Param:
    """One parameter or buffer: its shape, the width each axis follows, whether training moves it."""

    shape: Shape
    axes: tuple[Axis, ...]
    trainable: bool = True
