"""Readers of calls of transformers: products, norms across channels, embeddings, attention. See `read_calls`."""

from collections.abc import Callable, Mapping

from morphs.graph import ops
from morphs.torch_io.arguments import data, held
from morphs.torch_io.program import Call, Made, Modes, Value
from morphs.torch_io.reading import Refused, only


def linear(call: Call) -> Made:
    """Matrix product along the last axis."""
    tensors = held(weight=call.args["weight"], bias=call.args["bias"])
    features, *_ = tensors["weight"].size or (0,)
    return Made((ops.Linear(features, "bias" in tensors),), (data(call.args["input"]),), tensors)


def projection(call: Call) -> Made:
    """Matrix product by a weight (inputs, features), with a bias in `addmm`."""
    a = call.args
    tensors = held(weight=a["mat2"], bias=a["self"]) if call.name == "addmm" else held(weight=a["other"])
    for name in ("beta", "alpha"):
        only(name, a.get(name, 1), 1)
    if len(tensors["weight"].sizes) != 2:
        raise Refused("it multiplies by several matrices")
    features = tensors["weight"].sizes[-1]
    source = data(a["mat1"] if call.name == "addmm" else a["self"])
    return Made((ops.Projection(features, "bias" in tensors),), (source,), tensors)


def layer_norm(call: Call) -> Made:
    """Layer norm over the last axis."""
    a = call.args
    tensors, source = held(weight=a["weight"], bias=a["bias"]), data(a["input"])
    if list(a["normalized_shape"]) != [source.shape[-1]] or set(tensors) == {"bias"}:
        raise Refused("it normalises over several axes, or has no weight and a bias")
    return Made((ops.LayerNorm(float(a["eps"]), bool(tensors), len(tensors) != 1),), (source,), tensors)


def rms_norm(call: Call) -> Made:
    """Division by the root mean square over the last axis."""
    a = call.args
    tensors, source = held(weight=a["weight"]), data(a["input"])
    only("normalized_shape", list(a["normalized_shape"]), [source.shape[-1]])
    eps = None if a["eps"] is None else float(a["eps"])
    return Made((ops.RMSNorm(eps, bool(tensors)),), (source,), tensors)


def group_norm(call: Call) -> Made:
    """Group norm."""
    a = call.args
    tensors = held(weight=a["weight"], bias=a["bias"])
    if len(tensors) == 1:
        raise Refused("it has one of weight and bias")
    return Made(
        (ops.GroupNorm(int(a["num_groups"]), float(a["eps"]), bool(tensors)),), (data(a["input"]),), tensors
    )


def instance_norm(call: Call) -> Made:
    """Instance norm that keeps no statistics."""
    a = call.args
    tensors, source = held(weight=a["weight"], bias=a["bias"]), data(a["input"], 2, 3, 4)
    if len(tensors) == 1:
        raise Refused("it has one of weight and bias")
    only("use_input_stats", a["use_input_stats"], True)
    only("running_mean", a["running_mean"], None)
    return Made((ops.InstanceNorm(float(a["eps"]), bool(tensors)),), (source,), tensors)


def embedding(call: Call) -> Made:
    """Rows of a table."""
    a, places = call.args, call.args["indices"]
    only("scale_grad_by_freq", a["scale_grad_by_freq"], False)
    only("sparse", a["sparse"], False)
    if places.key or not places.shape or places.dtype is None or places.dtype.is_floating_point:
        raise Refused("it reads places that are the same for each example, or one for each")
    tensors = held(weight=a["weight"])
    count, features = tensors["weight"].size or (0, 0)
    padding = None if a["padding_idx"] < 0 else int(a["padding_idx"])
    return Made((ops.Embedding(count, features, padding),), (places,), tensors)


def attention(call: Call) -> Made:
    """Attention of several heads."""
    a = call.args
    q, k, v = (data(a[name], 3) for name in ("query", "key", "value"))
    if len({q.dtype, k.dtype, v.dtype}) != 1 or (q.shape[0] != k.shape[0] and not a["enable_gqa"]):
        raise Refused("its heads are broadcast")
    p, mask = a["dropout_p"], a["attn_mask"]
    if isinstance(p, Modes):
        only("dropout_p", p.eval, 0)
        p = p.train
    elif p:
        raise Refused("it has dropout in eval mode too")
    scale = None if a["scale"] is None else float(a["scale"])
    op = ops.Attention(bool(a["is_causal"]), scale, float(p))
    return Made((op,), (q, k, v) if mask is None else (q, k, v, _mask(mask)))


def _mask(mask: Value) -> Value:
    """The mask that is the same for all heads."""
    made = mask.call
    if made is not None and made.name in ("unsqueeze", "reshape") and mask.shape[:1] == (1,):
        source = made.args["self"]
        if isinstance(source, Value) and source.shape == mask.shape[1:]:
            return source
    raise Refused("its mask isn't the same for all heads")


def learned(call: Call) -> Made:
    """A parameter or buffer, the same for each example."""
    value: Value = call.args["held"]
    return Made((ops.Parameter(value.size or (), source=call.args["source"]),), (), {"weight": value})


TOKENS: Mapping[str, Callable[[Call], Made]] = {
    "linear": linear, "addmm": projection, "matmul": projection, "layer_norm": layer_norm, "rms_norm": rms_norm,
    "group_norm": group_norm, "instance_norm": instance_norm, "embedding": embedding,
    "scaled_dot_product_attention": attention, "parameter": learned,
}  # fmt: skip
