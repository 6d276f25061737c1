"""Norms that a forward spells out: several calls that are one layer norm, RMS norm or frozen batch norm, but for
rounding."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from morphs.torch_io.lazy import bare, maker
from morphs.torch_io.program import Call, Value

FROZEN = "morphs.frozen_norm"
SHAPED = frozenset(("unsqueeze", "view", "reshape", "_unsafe_view", "slice"))


@dataclass(frozen=True)
class Norm:
    """A norm of `source` along `axis`: what is divided is `source`, less its mean if `centred`, by the root of the
    mean of its square plus `eps`; then scaled and shifted."""

    source: Value
    axis: int
    centred: bool
    eps: float
    weight: Value | None = None
    bias: Value | None = None


def with_norms(kinds: Mapping[str, str], calls: Iterable[Call]) -> list[Call]:
    """The calls, norms that are spelled out as a call each besides: along the last axis, or along another one between
    two permutations. kinds: of the tensors of the module's state, "parameter", "buffer" or "constant".

    What a norm was made of is left there, for whoever else reads it.
    """
    calls = [*calls]
    frozen = _frozen_norms(calls, kinds)
    made: dict[int, Norm] = {}  # of what a norm gives, the norm
    found: list[Call] = []
    for call in calls:
        norm = _plain(call) or _scaled(call, made) or _shifted(call, made)
        if norm is None:
            found.append(frozen.get(id(call), call))
        else:
            made[id(call.out)] = norm
            found.extend(_calls(norm, call))
    return found


def _plain(call: Call) -> Norm | None:
    """n / √(s + ε), or n · rsqrt(s + ε)."""
    match call.name:
        case "mul":
            pairs, name = _both(call), "rsqrt"
        case "div":
            pairs, name = _both(call)[:1], "sqrt"
        case _:
            return None
    for divided, other in pairs:
        root = maker(other)
        shifted = maker(root.args["self"]) if root is not None and root.name == name else None
        if shifted is None or shifted.name != "add" or shifted.args.get("alpha", 1) != 1:
            continue
        eps, spread = shifted.args["other"], maker(shifted.args["self"])
        if isinstance(eps, float) and spread is not None and _is_tensor(divided):
            norm = _from_squares(divided, spread, eps) or _from_variance(divided, spread, eps)
            if norm is not None:
                return norm
    return None


def _from_squares(divided: Value, spread: Call, eps: float) -> Norm | None:
    """Where the spread is the mean of the square of what is divided."""
    axis = _mean_axis(spread)
    squared = maker(spread.args["self"]) if axis else None
    if axis is None or squared is None or not _squares(squared, divided):
        return None
    centred = _centred(divided)
    if centred is not None and centred[1] == axis:
        return _norm(centred[0], axis, True, eps)
    return _norm(divided, axis, False, eps)


def _from_variance(divided: Value, spread: Call, eps: float) -> Norm | None:
    """Where the spread is the variance, over n rather than n − 1, of what has its mean taken off."""
    centred = _centred(divided)
    if centred is None:
        return None
    source, axis = centred
    if spread.target == "getitem" and spread.args["index"] == 0:
        spread = spread.args["self"].call
    a = spread.args
    whole = a.get("correction", a.get("unbiased", 1)) == 0
    if spread.name not in ("var", "var_mean") or not whole or not a.get("keepdim"):
        return None
    fits = bare(a["self"]) is bare(source) and _only_axis(a, source) == axis
    return _norm(source, axis, True, eps) if fits else None


def _norm(source: Value, axis: int, centred: bool, eps: float) -> Norm | None:
    fits = axis > 0 and source.sizes[axis] > 0 and _is_tensor(source)
    return Norm(source, axis, centred, eps) if fits else None


def _scaled(call: Call, made: dict[int, Norm]) -> Norm | None:
    for normed, weight in _both(call) if call.name == "mul" else ():
        norm = made.get(id(bare(normed)))
        if norm is not None and norm.weight is None:
            found = _laid(weight, norm.source, norm.axis)
            return replace(norm, weight=found) if found is not None else None
    return None


def _shifted(call: Call, made: dict[int, Norm]) -> Norm | None:
    for normed, bias in _both(call) if call.name == "add" and call.args.get("alpha", 1) == 1 else ():
        norm = made.get(id(bare(normed)))
        if norm is not None and norm.centred and norm.weight is not None and norm.bias is None:
            found = _laid(bias, norm.source, norm.axis)
            return replace(norm, bias=found) if found is not None else None
    return None


def _frozen_norms(calls: list[Call], kinds: Mapping[str, str]) -> dict[int, Call]:
    """By the call that it is instead of, each frozen batch norm whose buffers nothing else reads."""
    norms = {id(call): norm for call in calls if (norm := _frozen(call, kinds)) is not None}
    reads = Counter(value.key for call in calls for value in call.reads() if value.key)
    uses = Counter(value.key for norm in norms.values() for value in norm.reads() if value.key)
    found = {
        number: norm
        for number, norm in norms.items()
        if all(reads[value.key] == uses[value.key] for value in norm.reads() if value.key)
    }
    for norm in found.values():
        norm.out.call = norm
    return found


def _frozen(call: Call, kinds: Mapping[str, str]) -> Call | None:
    """x · s + (β − μ · s) with s = γ · rsqrt(σ² + ε), all four of them buffers of one module."""
    for product, shift in _both(call) if call.name == "add" and call.args.get("alpha", 1) == 1 else ():
        scaled, shifted = maker(product), maker(shift)
        if scaled is None or shifted is None or (scaled.name, shifted.name) != ("mul", "sub"):
            continue
        for x, scale in _both(scaled):
            batch = _is_tensor(x) and len(x.sizes) > 1
            held = _buffers(x, scale, shifted, kinds) if batch else None
            if held is not None:
                return Call(f"{FROZEN}.default", {"input": x, **held}, call.out, call.scope)
    return None


def _buffers(x: Value, scale: Any, shifted: Call, kinds: Mapping[str, str]) -> dict[str, Any] | None:
    """γ, β, μ and σ² of such a norm, and its ε."""
    made, product = maker(scale), maker(shifted.args["other"])
    if made is None or product is None or (made.name, product.name) != ("mul", "mul"):
        return None
    means = [mean for mean, other in _both(product) if bare(other) is bare(scale)]
    for weight, inverse in _both(made) if means and shifted.args.get("alpha", 1) == 1 else ():
        root = maker(inverse)
        spread = maker(root.args["self"]) if root is not None and root.name == "rsqrt" else None
        if spread is None or spread.name != "add" or not isinstance(spread.args["other"], float):
            continue
        read = {
            "weight": weight, "bias": shifted.args["self"], "running_mean": means[0],
            "running_var": spread.args["self"],
        }  # fmt: skip
        laid = (_laid(value, x, 1) for value in read.values())
        held = {name: value for name, value in zip(read, laid, strict=True) if value is not None}
        home = next(iter(held.values())).key.rpartition(".")[0] if len(held) == len(read) else ""
        if home and all(
            v.key == f"{home}.{name}" and kinds.get(v.key) == "buffer" for name, v in held.items()
        ):
            return {**held, "eps": spread.args["other"]}
    return None


def _laid(value: Any, source: Value, axis: int) -> Value | None:
    """The tensor of the module's state that `value` lays along `axis` of `source`."""
    if not isinstance(value, Value) or value.dtype != source.dtype:
        return None
    size, after = source.sizes[axis], len(source.sizes) - 1 - axis
    laid = (size, *(1 for _ in range(after)))
    if value.sizes[-len(laid) :] != laid or any(n != 1 for n in value.sizes[: -len(laid)]):
        return None
    while value.call is not None and value.call.name in SHAPED:
        value = value.call.args["self"]
    return value if value.key and value.size == (size,) else None


def _calls(norm: Norm, call: Call) -> list[Call]:
    """The norm as one call that makes what `call` made; between two permutations where it isn't along the last axis."""
    out, source, last = call.out, norm.source, len(norm.source.sizes) - 1
    if norm.axis == last:
        out.call = _one_call(norm, source, out, call)
        return [out.call]
    order = [*(i for i in range(last + 1) if i != norm.axis), norm.axis]
    back = [order.index(i) for i in range(last + 1)]
    moved, normed = (Value(tuple(source.sizes[i] for i in order), source.dtype) for _ in range(2))
    moved.call = _permuted(source, order, moved, call)
    normed.call = _one_call(norm, moved, normed, call)
    out.call = _permuted(normed, back, out, call)
    return [moved.call, normed.call, out.call]


def _one_call(norm: Norm, source: Value, out: Value, call: Call) -> Call:
    args: dict[str, Any] = {"input": source, "normalized_shape": [source.sizes[-1]], "weight": norm.weight}
    if norm.centred:
        return Call(
            "aten.layer_norm.default", {**args, "bias": norm.bias, "eps": norm.eps}, out, call.scope, 5
        )
    return Call("aten.rms_norm.default", {**args, "eps": norm.eps}, out, call.scope, 4)


def _permuted(source: Value, order: list[int], out: Value, call: Call) -> Call:
    return Call("aten.permute.default", {"self": source, "dims": order}, out, call.scope, 2)


def _centred(value: Any) -> tuple[Value, int] | None:
    """x and the axis, where `value` is x less its mean along one axis."""
    call = maker(value)
    if call is None or call.name != "sub" or call.args.get("alpha", 1) != 1:
        return None
    source, mean = call.args["self"], maker(call.args["other"])
    if not isinstance(source, Value) or mean is None:
        return None
    if mean.target == "getitem" and mean.args["index"] == 1:
        mean = mean.args["self"].call
        axis = _only_axis(mean.args, source) if mean.name == "var_mean" and mean.args.get("keepdim") else None
    else:
        axis = _mean_axis(mean)
    same = axis is not None and bare(mean.args["self"]) is bare(source)
    return (source, axis) if same and axis is not None else None


def _mean_axis(call: Call) -> int | None:
    """The one axis that a mean goes over and keeps."""
    kept = call.name == "mean" and call.args.get("keepdim")
    return _only_axis(call.args, call.args["self"]) if kept else None


def _only_axis(args: dict[str, Any], source: Value) -> int | None:
    axes, rank = args.get("dim"), len(source.sizes)
    return axes[0] % rank if isinstance(axes, list) and len(axes) == 1 and rank > 1 else None


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


def _squares(call: Call, source: Value) -> bool:
    """Whether it squares `source`, or what is computed as `source` is."""
    if not _alike(call.args.get("self"), source):
        return False
    if call.name == "pow":
        return call.args.get("exponent") == 2
    return call.name == "square" or (call.name == "mul" and _alike(call.args["other"], source))


def _alike(one: Any, other: Value) -> bool:
    """The same tensor, or both x less its mean: `x - u` is often written twice."""
    if bare(one) is bare(other):
        return True
    first, second = _centred(one), _centred(other)
    if first is None or second is None:
        return False
    return bare(first[0]) is bare(second[0]) and first[1] == second[1]
