"""Shape rules that several ops share, and the limits that torch sets to an op's attributes.

C channels, H height, W width.
"""

from math import isfinite

from morphs.errors import ShapeError
from morphs.graph.activations import ACTIVATIONS, known_activations

Shape = tuple[int, ...]
Pair = tuple[int, int]
Sizes = tuple[int, ...]  # a number for each spatial axis


def feature_map(shape: Shape, kind: str) -> tuple[int, int, int]:
    """`shape` as (C, H, W); ShapeError when it is a vector."""
    if len(shape) != 3:
        raise ShapeError(f"{kind} reads {shape}, which is not a (C, H, W) feature map")
    return shape[0], shape[1], shape[2]


def windows(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool = False
) -> Pair:
    """Number of window positions along H and W, by torch's rule."""
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    rows, columns = (window_count(n, k, s, p, d, ceil_mode) for n, k, s, p, d in each)
    return rows, columns


def window_count(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool = False
) -> int:
    """Number of window positions along one axis, by torch's rule."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:  # a window must not start in the right padding
        count -= 1
    if count < 1:
        raise ShapeError(
            f"a window of {dilation * (kernel - 1) + 1} pixels doesn't fit into {size} padded by {padding}"
        )
    return count


def positive(kind: str, *sizes: int) -> None:
    """Refuse a size below 1."""
    if not sizes or min(sizes) < 1:
        raise ShapeError(f"{kind} has a size below 1; give 1 or more")


def axis_of(kind: str, axis: int, shape: Shape) -> int:
    """`axis` counted from the first; ShapeError where `shape` has no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"{kind} works along axis {axis} and reads {shape}; give an axis there is")
    return axis % len(shape)


def pooled(
    shape: Shape, kind: str, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> Shape:
    """(C, H, W) -> (C, H', W') of a pooling; ShapeError for what torch refuses, such as padding over half a window."""
    channels, height, width = feature_map(shape, kind)
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise ShapeError("pooling has a kernel, stride or dilation below 1, or a negative padding")
    if any(2 * p > k for k, p in zip(kernel, padding, strict=True)):
        raise ShapeError(f"pooling pads {padding}, more than half its window {kernel}")
    return (channels, *windows((height, width), kernel, stride, padding, dilation, ceil_mode))


def adaptive(shape: Shape, size: Pair, kind: str) -> Shape:
    """(C, H, W) -> (C, *size); ShapeError when the size is not positive."""
    if min(size) < 1:
        raise ShapeError(f"{kind} has size {size}; give positive numbers")
    return (feature_map(shape, kind)[0], *size)


def check_activation(fn: str, args: tuple[float, ...]) -> None:
    """Refuse an unknown φ or a wrong number of arguments."""
    if fn not in ACTIVATIONS:
        raise ShapeError(f"activation {fn!r:.80} is unknown; {known_activations()}")
    if len(args) not in (0, len(ACTIVATIONS[fn].args)):
        raise ShapeError(f"activation {fn} takes {len(ACTIVATIONS[fn].args)} arguments, not {len(args)}")
    if not all(isfinite(value) for value in args):
        raise ShapeError(f"activation {fn} has the argument {args}; give finite numbers")
