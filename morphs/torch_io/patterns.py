"""Layers that a forward spells out: several calls that are one call of torch, but for rounding."""

from collections.abc import Iterable

from morphs.graph.aten import POINTWISE
from morphs.torch_io.lazy import EXPANDED
from morphs.torch_io.program import Call, Value, mapped


def spelled_out(calls: Iterable[Call]) -> list[Call]:
    """The calls, a sum with a product (`addcmul`), and a linear layer with a bias that is computed, each in two;
    tensors along a new axis (`stack`) as joined along one of length 1."""
    return [made for call in calls for made in _unstacked(call) or _in_two(_unexpanded(call))]


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
