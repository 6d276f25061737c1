"""The table of ATen calls that the op vocabulary knows: operator → reader.

A reader looks at the call's arguments, by the names of the operator's schema, and describes the result as `Made`, or
raises Refused: the call is then kept as an `aten` op. Who knows another operator adds a row. C channels.
"""

from collections.abc import Callable, Mapping
from typing import Any

from morphs.graph import ops
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.ops import Pair
from morphs.torch_io.arguments import data, held
from morphs.torch_io.program import Call, Made, Modes, Value
from morphs.torch_io.read_axes import AXES
from morphs.torch_io.read_normed import normed_layer
from morphs.torch_io.read_recurrent import recurrent
from morphs.torch_io.read_spatial import SPATIAL
from morphs.torch_io.read_tokens import TOKENS
from morphs.torch_io.reading import Refused, only, pair

# -- elementwise ---------------------------------------------------------------------------------------


def _act(fn: str, args: tuple[Any, ...], input: Any) -> Made:
    usual = tuple(default for _, default in ACTIVATIONS[fn].args)
    given = tuple(float(value) for value in args)
    return Made((ops.Activation(fn, () if given == usual else given),), (data(input),))


def activation(fn: str) -> Callable[[Call], Made]:
    """The reader of a φ without arguments."""
    return lambda call: _act(fn, (), call.args["self"])


def leaky_relu(call: Call) -> Made:
    """Leaky ReLU."""
    return _act("leaky_relu", (call.args["negative_slope"],), call.args["self"])


def elu(call: Call) -> Made:
    """ELU; CELU and SELU have other scales."""
    only("scale", call.args["scale"], 1)
    only("input_scale", call.args["input_scale"], 1)
    return _act("elu", (call.args["alpha"],), call.args["self"])


def gelu(call: Call) -> Made:
    """GELU, the exact one."""
    only("approximate", call.args["approximate"], "none")
    return _act("gelu", (), call.args["self"])


def softplus(call: Call) -> Made:
    """Softplus with torch's own beta and threshold."""
    only("beta", call.args["beta"], 1)
    only("threshold", call.args["threshold"], 20)
    return _act("softplus", (), call.args["self"])


def hardtanh(call: Call) -> Made:
    """Hardtanh from 0 to 6, which is ReLU6."""
    only("min_val", call.args["min_val"], 0)
    only("max_val", call.args["max_val"], 6)
    return _act("relu6", (), call.args["self"])


def prelu(call: Call) -> Made:
    """PReLU, the P-activation of ReLU with its slope as a."""
    tensors = held(a=call.args["weight"])
    return Made(
        (ops.PActivation("relu", per_channel=tensors["a"].size != (1,)),), (data(call.args["self"]),), tensors
    )


def dropout(call: Call) -> Made:
    """Dropout that follows the mode, or is off in both."""
    source, train = call.args["input"], call.args["train"]
    if train is False or call.args["p"] == 0:
        return Made((), (source,))
    only("train", train, Modes(False, True))
    return Made((ops.Dropout(float(call.args["p"])),), (data(source),))


def drop_path(call: Call) -> Made:
    """Stochastic depth, as `modes` found it."""
    op = ops.DropPath(call.args["p"], call.args["mode"], call.args["scaled"])
    return Made((op,), (data(call.args["self"]),))


def add(call: Call) -> Made:
    """Sum of two tensors of one shape; 0 + x, with which Python's sum begins, is x."""
    first, other = data(call.args["self"]), call.args["other"]
    if type(other) is int and other == 0:
        return Made((), (first,))
    only("alpha", call.args["alpha"], 1)
    second = data(other)
    if first.shape != second.shape or first.dtype != second.dtype:
        raise Refused("it adds tensors of different shapes")
    return Made((ops.Add(),), (first, second))


def multiply(call: Call) -> Made:
    """Product of two tensors of one rank."""
    first, second = data(call.args["self"]), data(call.args["other"])
    if len(first.shape) != len(second.shape) or first.dtype != second.dtype:
        raise Refused("it multiplies tensors of different ranks")
    return Made((ops.Multiply(),), (first, second))


# -- layers --------------------------------------------------------------------------------------------


def conv2d(call: Call) -> Made:
    """Convolution; where its input was padded in another mode in the same module, that is its own padding."""
    a, source = call.args, data(call.args["input"], 3)
    tensors = held(weight=a["weight"], bias=a["bias"])
    channels, _, *size = tensors["weight"].size or (0, 0)
    kernel, dilation = pair(size), pair(a["dilation"])
    padding, mode = _padding(a["padding"], kernel, dilation), "zeros"
    before = source.call
    if before is not None and before.name == "pad" and before.frame == call.frame and padding == (0, 0):
        found = _own_padding(before, kernel, dilation)
        if found is not None:
            source, (padding, mode) = data(before.args["self"], 3), found
    op = ops.Conv2d(
        channels, kernel, pair(a["stride"]), padding, mode, dilation, int(a["groups"]), "bias" in tensors
    )  # pyright: ignore[reportArgumentType]  # one of torch's modes, which are ours
    return Made((op,), (source,), tensors)


def _own_padding(call: Call, kernel: Pair, dilation: Pair) -> tuple[Pair, Any] | None:
    amounts, mode = list(call.args["pad"]), call.args["mode"]
    if mode not in ("reflect", "replicate", "circular") or len(amounts) != 4:
        return None
    left, right, top, bottom = amounts
    return ((top, left), mode) if (left, top) == (right, bottom) and min(left, top) >= 0 else None


def _padding(padding: Any, kernel: Pair, dilation: Pair) -> Pair:
    if padding == "valid":
        return (0, 0)
    if padding != "same":
        return pair(padding)
    (top, odd_h), (left, odd_w) = (divmod(d * (k - 1), 2) for k, d in zip(kernel, dilation, strict=True))
    if odd_h or odd_w:
        raise Refused(f"padding='same' pads kernel {kernel} unevenly")
    return (top, left)


def batch_norm(call: Call) -> Made:
    """Batch norm, or one whose statistics are frozen."""
    a = call.args
    tensors = held(
        weight=a["weight"], bias=a["bias"], running_mean=a["running_mean"], running_var=a["running_var"]
    )
    if ("weight" in tensors) != ("bias" in tensors):
        raise Refused("it has one of weight and bias")
    tracked, affine = "running_mean" in tensors, "weight" in tensors
    source = data(a["input"], 1, 2, 3, 4)
    if a["training"] is False and tracked:
        return Made((ops.FrozenBatchNorm(float(a["eps"]), affine),), (source,), tensors)
    only("training", a["training"], Modes(False, True) if tracked else True)
    momentum = None if a["momentum"] is None else float(a["momentum"])
    return Made((ops.BatchNorm(float(a["eps"]), momentum, affine, tracked),), (source,), tensors)


def frozen_norm(call: Call) -> Made:
    """Batch norm of buffers alone."""
    a = call.args
    tensors = {name: a[name] for name in ("weight", "bias", "running_mean", "running_var")}
    op = ops.FrozenBatchNorm(float(a["eps"]), trained=False)
    return Made((op,), (data(a["input"], 1, 2, 3, 4),), tensors)


# -- windows -------------------------------------------------------------------------------------------


def max_pool2d(call: Call) -> Made:
    """Maximum over windows."""
    a = call.args
    kernel = pair(a["kernel_size"])
    op = ops.MaxPool2d(
        kernel, pair(a["stride"] or kernel), pair(a["padding"]), pair(a["dilation"]), bool(a["ceil_mode"])
    )
    return Made((op,), (data(a["self"], 3),))


def avg_pool2d(call: Call) -> Made:
    """Mean over windows."""
    a = call.args
    only("divisor_override", a["divisor_override"], None)
    kernel = pair(a["kernel_size"])
    stride = pair(a["stride"] or kernel)
    op = ops.AvgPool2d(kernel, stride, pair(a["padding"]), bool(a["ceil_mode"]), bool(a["count_include_pad"]))
    return Made((op,), (data(a["self"], 3),))


def adaptive_avg_pool2d(call: Call) -> Made:
    """Mean over as many windows as the size says."""
    return Made((ops.AdaptiveAvgPool2d(pair(call.args["output_size"])),), (data(call.args["self"], 3),))


def first_of_several(call: Call) -> Made:
    """The maximum of a pooling that gives its place as well."""
    source = call.args["self"].call
    if (
        call.args["index"] != 0
        or source is None
        or source.name not in ("adaptive_max_pool2d", "max_pool2d_with_indices")
    ):
        raise Refused("it takes one of several results")
    if source.name == "max_pool2d_with_indices":
        return max_pool2d(source)
    return Made((ops.AdaptiveMaxPool2d(pair(source.args["output_size"])),), (data(source.args["self"], 3),))


def same(call: Call) -> Made:
    """The same numbers."""
    source = next(iter(call.args.values()))
    if not isinstance(source, Value) or (source.size, source.dtype) != (call.out.size, call.out.dtype):
        raise Refused("it changes type or shape")
    return Made((), (source,))


def pad(call: Call) -> Made:
    """No padding at all."""
    if any(call.args["pad"]):
        raise Refused("it pads")
    return Made((), (data(call.args["self"]),))


CALLS: Mapping[str, Callable[[Call], Made]] = {
    **{fn: activation(fn) for fn in ("relu", "relu6", "silu", "hardswish", "mish", "tanh", "sigmoid")},
    "leaky_relu": leaky_relu, "elu": elu, "gelu": gelu, "softplus": softplus, "hardtanh": hardtanh, "prelu": prelu,
    "dropout": dropout, "drop_path": drop_path, "add": add, "mul": multiply, "multiply": multiply,
    "conv2d": conv2d, "batch_norm": batch_norm,
    "max_pool2d": max_pool2d, "avg_pool2d": avg_pool2d, "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "getitem": first_of_several, "pad": pad,
    "clone": same, "contiguous": same, "to": same, "_to_copy": same, "alias": same, "lift_fresh_copy": same,
    "expand": same, "expand_as": same, "type_as": same, "normed_layer": normed_layer, "recurrent": recurrent,
    "frozen_norm": frozen_norm,
    **TOKENS, **AXES, **SPATIAL,
}  # fmt: skip
