"""Layers that a forward spells out: several calls that are one call of torch, but for rounding."""

from collections.abc import Iterable

from morphs.graph.aten import POINTWISE
from morphs.torch_io.lazy import EXPANDED, lengths
from morphs.torch_io.program import Call, Reads, Value, mapped

REDUCTIONS = frozenset(("amax", "amin", "logsumexp", "sum"))
WHOLE_MAPS = ("adaptive_max_pool1d", "adaptive_max_pool3d")  # of two axes there is an op


def spelled_out(calls: Iterable[Call], read: Reads) -> list[Call]:
    """The calls, some as others that say more about widths:

    A sum with a product (`addcmul`), and a linear layer with a bias that is computed, are two calls each, and so is
    what takes numbers together along an axis and leaves that out: the axis has length 1 first. Tensors along a new axis
    (`stack`) are joined along one of length 1. The largest numbers along an axis, whose places nobody reads, are those
    alone.
    """
    made: list[Call] = []
    for call in calls:
        call = _largest(_unexpanded(call), read)
        made += _unstacked(call) or _kept_axis(call) or _in_two(call)
    return made


def _largest(call: Call, read: Reads) -> Call:
    """The numbers that `max` or `min` finds along an axis, or a maximum over a whole map, as `amax` or `amin`."""
    both = call.args["self"].call if call.target == "getitem" and call.args["index"] == 0 else None
    if both is None or read[id(both.out)] > 1:
        return call
    a = both.args
    if both.name in ("max", "min") and "dim" in a:
        name, axes, keep = f"a{both.name}", [a["dim"]], a["keepdim"]
    elif both.name in WHOLE_MAPS and {*a["output_size"]} == {1}:
        name, axes, keep = "amax", [-1 - i for i in range(len(a["output_size"]))], True
    else:
        return call
    call.out.call = Call(
        f"aten.{name}.default", {"self": a["self"], "dim": axes, "keepdim": keep}, call.out, call.scope, 3
    )
    return call.out.call


def _kept_axis(call: Call) -> list[Call]:
    """A reduction along axes other than the batch's as one that keeps them, and a view without; none of others."""
    a, source = call.args, call.args.get("self")
    if call.name not in REDUCTIONS or a.get("keepdim") or a.get("dtype") is not None or not a.get("dim"):
        return []
    if not isinstance(source, Value) or not source.shape or not call.out.shape:
        return []
    axes = {axis % len(source.sizes) for axis in ([a["dim"]] if isinstance(a["dim"], int) else a["dim"])}
    if 0 in axes:
        return []
    size = tuple(1 if axis in axes else length for axis, length in enumerate(source.sizes))
    part = Value(size, call.out.dtype)
    part.call = Call(call.target, {**a, "keepdim": True}, part, call.scope, 3)
    view = {"self": part, "size": lengths(call.out.sizes)}
    call.out.call = Call("aten.view.default", view, call.out, call.scope, 2)
    return [part.call, call.out.call]


def _unexpanded(call: Call) -> Call:
    """A call of an elementwise operator with what is broadcast by it anyway as it was before it was expanded."""
    reads = call.reads() if call.name in POINTWISE else []
    if not any(value.call is not None and value.call.name in EXPANDED for value in reads):
        return call

    def before(value: Value) -> Value:
        source = value.call.args["self"] if value.call is not None and value.call.name in EXPANDED else value
        others = any(other is not value and other.size == call.out.size for other in reads)
        fits = others and not source.key and len(source.sizes) == len(value.sizes)
        return source if fits else value

    call.args = mapped(call.args, before)
    return call


def _unstacked(call: Call) -> list[Call]:
    """A stack of tensors that have the batch first as several calls; none of other calls."""
    if call.name != "stack" or not all(value.shape for value in call.args["tensors"]):
        return []
    axis = call.args["dim"] % len(call.out.sizes)
    if axis == 0:
        return []
    made: list[Call] = []
    for value in call.args["tensors"]:
        part = Value((*value.sizes[:axis], 1, *value.sizes[axis:]), value.dtype)
        part.call = Call("aten.unsqueeze.default", {"self": value, "dim": axis}, part, call.scope, 2)
        made.append(part.call)
    args = {"tensors": [one.out for one in made], "dim": axis}
    call.out.call = Call("aten.cat.default", args, call.out, call.scope, 2)
    return [*made, call.out.call]


def _in_two(call: Call) -> tuple[Call, ...]:
    a, out, part = call.args, call.out, Value(call.out.size, call.out.dtype)
    if call.name == "addcmul" and a["value"] == 1 and out.size in (a["tensor1"].size, a["tensor2"].size):
        first = Call("aten.mul.Tensor", {"self": a["tensor1"], "other": a["tensor2"]}, part, call.scope, 2)
        terms = a["self"], part
    elif call.name == "linear" and isinstance(a["bias"], Value) and not a["bias"].key and a["weight"].key:
        first = Call(call.target, {**a, "bias": None}, part, call.scope, call.positional)
        terms = part, a["bias"]
    else:
        return (call,)
    part.call = first
    args = {"self": terms[0], "other": terms[1], "alpha": 1}
    out.call = Call("aten.add.Tensor", args, out, call.scope, 2)
    return first, out.call
