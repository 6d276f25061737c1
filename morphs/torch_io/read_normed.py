"""Layers whose weight is computed from parameters, several calls that are one op: weight norm and standardisation."""

import re
from collections.abc import Iterable
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from morphs.graph import ops
from morphs.torch_io.arguments import data, held
from morphs.torch_io.program import Call, Made, Value
from morphs.torch_io.read_spatial import each
from morphs.torch_io.reading import Refused

NORMED = "morphs.normed_layer"
LAYERS = {"linear": 0, "conv1d": 1, "conv2d": 2, "conv3d": 3}  # the spatial axes of each
SHAPES = frozenset(("view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten"))
PARAMETRISED = re.compile(r"\.parametrizations\.\w+\.original\d*$|\.?[^.]*$")


class Weight(NamedTuple):
    """What a weight is computed from. g: None without a factor of each row."""

    how: str
    v: Value
    g: Value | None = None
    scale: float = 1.0
    eps: float = 0.0


def with_weights(calls: Iterable[Call]) -> list[Call]:
    """The calls, each layer of a computed weight as one call besides; what it was made of is left there."""
    return [_normed(call) or call for call in calls]


def normed_layer(call: Call) -> Made:
    """The op of such a call."""
    a, (how, v, g, scale, eps) = call.args, call.args["weight"]
    rank = LAYERS[a["layer"]]
    bias, (channels, _, *kernel) = held(bias=a["bias"]), v.sizes
    named: dict[str, Any] = {}
    if rank:
        dilation, padding = each(a["dilation"], rank), a["padding"]
        if isinstance(padding, str):
            twice = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
            if any(n % 2 for n in twice):
                raise Refused(f"padding='same' pads kernel {kernel} unevenly")
            padding = [n // 2 for n in twice]
        named = {"stride": each(a["stride"], rank), "padding": each(padding, rank), "dilation": dilation}
        named["groups"] = int(a["groups"])
    source = data(a["input"], rank + 1) if rank else data(a["input"])
    op = ops.NormedLayer(
        channels, tuple(kernel), bias=bool(bias), how=how, gain=g is not None, scale=scale, eps=eps, **named
    )
    return Made((op,), (source,), {**({"g": g} if g is not None else {}), "v": v, **bias})


def home(keys: Iterable[str]) -> str:
    """The path of the module that computes its weight from these parameters; "" where they are of several."""
    found = {PARAMETRISED.sub("", key) for key in keys}
    return found.pop() if len(found) == 1 else ""


def _normed(call: Call) -> Call | None:
    weight = call.args.get("weight") if call.name in LAYERS else None
    if not isinstance(weight, Value) or weight.key:
        return None
    found = _weight_norm(weight) or _standardised(weight)
    if found is None or found.v.size != weight.size:
        return None
    made = replace(call, target=f"{NORMED}.default", args={**call.args, "weight": found, "layer": call.name})
    call.out.call = made
    return made


def _weight_norm(weight: Value) -> Weight | None:
    call = weight.call
    if call is not None and call.target == "getitem" and call.args["index"] == 0:
        call = call.args["self"].call
    if call is None or call.name not in ("_weight_norm", "_weight_norm_interface") or call.args["dim"] != 0:
        return None
    v, g = call.args["v"], call.args["g"]
    return Weight("norm", v, g) if v.key and g.key and g.size == _rows(v) else None


def _standardised(weight: Value) -> Weight | None:
    """v as rows (1, channels, …) through a batch norm without statistics of its own."""
    norm = _shaped(weight).call
    if norm is None or norm.name != "batch_norm" or norm.args["training"] is not True:
        return None
    a = norm.args
    if any(a[name] is not None for name in ("running_mean", "running_var", "bias")):
        return None
    v, g, scale = _shaped(a["input"]), a["weight"], 1.0
    if not v.key or a["input"].size != (1, v.sizes[0], prod(v.sizes[1:])):
        return None
    if isinstance(g, Value):
        g = _shaped(g)
        if g.call is not None and g.call.name == "mul" and isinstance(g.call.args["other"], (int, float)):
            g, scale = g.call.args["self"], float(g.call.args["other"])
        if not g.key or g.size != _rows(v):
            return None
    return Weight("standard", v, g, scale, float(a["eps"]))


def _rows(v: Value) -> tuple[int, ...]:
    return (v.sizes[0], *(1 for _ in v.sizes[1:]))


def _shaped(value: Value) -> Value:
    """What `value` is but for its shape."""
    while value.call is not None and value.call.name in SHAPES:
        value = value.call.args["self"]
    return value
