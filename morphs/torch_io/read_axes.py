"""Readers of calls that move numbers along axes: reshapes, permutations, parts, joins, means. See `read_calls`."""

from collections.abc import Callable, Mapping
from math import prod

from morphs.graph import ops
from morphs.torch_io.arguments import data
from morphs.torch_io.lazy import permutation
from morphs.torch_io.program import Call, Made, Value
from morphs.torch_io.reading import Refused, only


def reshape(call: Call) -> Made:
    """The same numbers as another tensor, the batch kept apart."""
    if isinstance(given := call.args["self"], Value) and given.size == call.out.size:
        return Made((), (given,))
    source = data(given)
    if not call.out.shape:
        raise Refused("it takes the batch together with other axes")
    if call.out.shape == (prod(source.shape),):
        return Made((ops.Flatten(),), (source,))
    return Made((ops.Reshape(call.out.shape),), (source,))


def permute(call: Call) -> Made:
    """The axes in another order, the batch first."""
    order, source = permutation(call), data(call.args["self"])
    if order is None or order[0] != 0:
        raise Refused("it moves the batch")
    if order == sorted(order):
        return Made((), (source,))
    return Made((ops.Permute(tuple(axis - 1 for axis in order[1:])),), (source,))


def select(call: Call) -> Made:
    """What is at one place of an axis."""
    source = data(call.args["self"])
    return Made((ops.Select(int(call.args["index"]), _axis(call)),), (source,))


def part(call: Call) -> Made:
    """Places in a row along an axis."""
    source, axis, args = data(call.args["self"]), _axis(call), call.args
    only("step", args.get("step", 1), 1)
    length = source.shape[axis]
    if call.name == "narrow":
        start, stop = args["start"], args["start"] + args["length"]
    else:
        start, stop = args["start"] or 0, length if args["end"] is None else args["end"]
    start, stop = (min(max(place + length if place < 0 else place, 0), length) for place in (start, stop))
    if (start, stop) == (0, length):
        return Made((), (source,))
    return Made((ops.Slice(start, stop, axis),), (source,))


def _axis(call: Call) -> int:
    """The axis it works along, the batch not counted."""
    axis = call.args["dim"] % len(call.args["self"].size or ())
    if axis == 0:
        raise Refused("it works along the batch")
    return axis - 1


def pixel_shuffle(call: Call) -> Made:
    """r² channels in a row as one of r × r times as many pixels, spelled out."""
    (c, h, w), r = data(call.args["self"], 3).shape, int(call.args["upscale_factor"])
    steps = (
        ops.Reshape((c // r**2, r, r, h, w)),
        ops.Permute((0, 3, 1, 4, 2)),
        ops.Reshape((c // r**2, h * r, w * r)),
    )
    return Made(steps, (call.args["self"],))


def pixel_unshuffle(call: Call) -> Made:
    """r × r pixels of a channel as r² channels in a row, spelled out."""
    (c, h, w), r = data(call.args["self"], 3).shape, int(call.args["downscale_factor"])
    steps = (
        ops.Reshape((c, h // r, r, w // r, r)), ops.Permute((0, 2, 4, 1, 3)), ops.Reshape((c * r**2, h // r, w // r))
    )  # fmt: skip
    return Made(steps, (call.args["self"],))


def cat(call: Call) -> Made:
    """Tensors one after the other along an axis."""
    read = tuple(data(value) for value in call.args["tensors"])
    axis = call.args["dim"] % len(read[0].size or ())
    if axis == 0 or len({value.dtype for value in read}) != 1:
        raise Refused("it joins examples, or tensors of several types")
    return Made((ops.Concat(axis - 1),), read)


def mean(call: Call) -> Made:
    """Mean over axes; over H and W of a map it is global average pooling."""
    source, axes = data(call.args["self"]), call.args.get("dim")
    only("dtype", call.args["dtype"], None)
    rank = len(source.size or ())
    places = {axis % rank for axis in axes or ()}
    if not places or 0 in places:
        raise Refused("it takes the mean over the batch, or over all")
    if rank == 4 and places == {2, 3}:
        pooled = ops.AdaptiveAvgPool2d((1, 1))
        return Made((pooled,) if call.args["keepdim"] else (pooled, ops.Flatten()), (source,), stem="mean")
    if len(places) == rank - 1:
        raise Refused("it leaves one number of each example")
    made = ops.Mean(tuple(sorted(place - 1 for place in places)))
    return Made((made, ops.Reshape(call.out.shape)) if call.args["keepdim"] else (made,), (source,))


AXES: Mapping[str, Callable[[Call], Made]] = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as"),
        reshape,
    ),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "mT"), permute),
    "select": select, "slice": part, "narrow": part, "cat": cat, "concat": cat, "concatenate": cat, "mean": mean,
    "pixel_shuffle": pixel_shuffle, "pixel_unshuffle": pixel_unshuffle,
}  # fmt: skip
