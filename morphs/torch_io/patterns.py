"""Layers that a forward spells out: several calls that are one call of torch, but for rounding."""

from collections.abc import Iterable
from typing import Any

from morphs.graph.aten import POINTWISE
from morphs.torch_io.lazy import CONVERTED, EXPANDED
from morphs.torch_io.program import Call, Value, mapped

SAME = CONVERTED | {"contiguous", "clone", "alias"}


def with_norms(calls: Iterable[Call]) -> list[Call]:
    """The calls, root mean square norms that are spelled out (x · rsqrt(mean(x²) + ε) · γ) each as one call besides.

    What it was made of is left there, for whoever else reads it.
    """
    made: dict[int, Call] = {}  # of what a norm gives, the norm
    found: list[Call] = []
    for call in calls:
        norm = _plain_norm(call) or _scaled_norm(call, made)
        if norm is not None:
            made[id(call.out)] = norm
            call.out.call = norm
        found.append(norm or call)
    return found


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


def _plain_norm(call: Call) -> Call | None:
    match call.name:
        case "mul":
            pairs = _both(call)
        case "div":
            pairs = _both(call)[:1]
        case _:
            return None
    for source, other in pairs:
        root, inverse = _made(other), call.name == "mul"
        if root is None or root.name != ("rsqrt" if inverse else "sqrt") or not _is_tensor(source):
            continue
        shifted = _made(root.args["self"])
        eps = shifted.args.get("other") if shifted is not None and shifted.name == "add" else None
        averaged = _made(shifted.args["self"]) if shifted is not None and isinstance(eps, float) else None
        size = source.size or ()
        if averaged is None or averaged.name != "mean" or len(size) < 2 or size[-1] < 1:
            continue
        last = [axis % len(size) for axis in averaged.args.get("dim") or ()] == [len(size) - 1]
        squared = _made(averaged.args["self"])
        if (
            last
            and shifted is not None
            and averaged.args["keepdim"]
            and _squares(squared, source)
            and shifted.args.get("alpha", 1) == 1
        ):
            return _norm(call, source, None, size[-1], eps)
    return None


def _scaled_norm(call: Call, made: dict[int, Call]) -> Call | None:
    for source, weight in _both(call) if call.name == "mul" else ():
        norm = made.get(id(_bare(source))) if isinstance(source, Value) else None
        if norm is None or norm.args["weight"] is not None or not isinstance(weight, Value) or not weight.key:
            continue
        if weight.size == tuple(norm.args["normalized_shape"]) and weight.dtype == norm.out.dtype:
            return _norm(call, norm.args["input"], weight, norm.args["normalized_shape"][0], norm.args["eps"])
    return None


def _norm(call: Call, source: Value, weight: Value | None, size: int, eps: Any) -> Call:
    args = {"input": source, "normalized_shape": [size], "weight": weight, "eps": eps}
    return Call("aten.rms_norm.default", args, call.out, call.scope, 4)


def _both(call: Call) -> list[tuple[Any, Any]]:
    first, second = call.args.get("self"), call.args.get("other")
    return [(first, second), (second, first)]


def _is_tensor(value: Any) -> bool:
    return (
        isinstance(value, Value)
        and not value.key
        and value.dtype is not None
        and value.dtype.is_floating_point
    )


def _squares(call: Call | None, source: Value) -> bool:
    if call is None or _bare(call.args.get("self")) is not _bare(source):
        return False
    if call.name == "pow":
        return call.args.get("exponent") == 2
    return call.name == "square" or (call.name == "mul" and _bare(call.args["other"]) is _bare(source))


def _made(value: Any) -> Call | None:
    return _bare(value).call if isinstance(value, Value) else None


def _bare(value: Any) -> Any:
    """What a tensor is a copy of, of the same type and shape."""
    while isinstance(value, Value) and value.call is not None and value.call.name in SAME:
        source = value.call.args.get("self")
        if not isinstance(source, Value) or (source.dtype, source.size) != (value.dtype, value.size):
            return value
        value = source
    return value
