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
    RESHAPE = "reshape"  # the same numbers in the same order, along other axes
    PERMUTE = "permute"  # the same axes in another order
    SLICE = "slice"  # some of the columns along one axis
    DROP = "drop"  # without some axes
    HEADS = "heads"  # the first axis counts heads, which several inputs have in common
    OPAQUE = "opaque"  # fixes what it reads and writes, unless it declares that it carries widths
    SINK = "sink"  # the width is fixed from outside


class Axis(Enum):
    """Which width an axis of a parameter follows."""

    OUT = "out"  # the node's output width
    IN = "in"  # the node's input width (for a grouped convolution: one group's share)
    GATES = "gates"  # the node's output width, once for each gate of a recurrent layer
    AGAIN = "again"  # the node's output width, which it reads again
    NONE = "none"  # neither

    @property
    def own(self) -> bool:
        """Whether it follows what the node writes."""
        return self in (Axis.OUT, Axis.GATES, Axis.AGAIN)

    @property
    def read(self) -> bool:
        """Whether it is summed over."""
        return self in (Axis.IN, Axis.AGAIN)


class Role(Enum):
    """What an op is for in a network: moves list their sites by it, so that a new op of a known role joins them."""

    LAYER = "layer"  # has a weight that mixes channels
    NORM = "norm"  # normalises each channel by statistics of the batch
    WIDTH_NORM = "width_norm"  # normalises across channels, each example by itself
    EMBEDDING = "embedding"  # a learned row for each whole number
    ATTENTION = "attention"
    ACTIVATION = "activation"  # applies φ, elementwise, alone or blended with its argument
    FACTOR = "factor"  # multiplies by a learned factor
    POOL = "pool"  # makes a map smaller, by windows
    DROPOUT = "dropout"
    SUM = "sum"
    BLEND = "blend"  # a learned convex combination
    PRODUCT = "product"
    CONCAT = "concat"
    OTHER = "other"


@dataclass(frozen=True)
class Param:
    """One parameter or buffer: its shape, the width each axis follows, whether training moves it, and its start.

    start: what every fresh number of it is; None for He-normal ones, or normal ones of standard deviation `deviation`
    where that is given. whole: torch's name of the type of whole numbers or truth values that it holds, if it does.
    any: whether it may hold numbers that aren't finite, as masks do.
    """

    shape: Shape
    axes: tuple[Axis, ...]
    trainable: bool = True
    start: float | None = 0.0
    whole: str | None = None
    deviation: float | None = None
    any: bool = False
