"""What torch functions and tensor methods mean in the op vocabulary.

Each reader has the signature of the function it reads (so that Python binds the arguments), takes `Ref` for
tensors, and describes the result as `OpChain`; nothing is built here. B batch, C channels, H height, W width.
"""

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from morphs.graph import ops
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.ops import Pair
from morphs.graph.shapes import feature_map
from morphs.torch_io.reading import BATCH, Memory, OpChain, Ref, Refused, only, pair, tensor

# -- elementwise ---------------------------------------------------------------------------------------


def _act(fn: str, args: tuple[float, ...], input: Ref, inplace: bool) -> OpChain:
    usual = tuple(default for _, default in ACTIVATIONS[fn].args)
    given = tuple(float(value) for value in args)
    op = ops.Activation(fn, () if given == usual else given)
    return OpChain((op,), (tensor(input),), Memory.SAME if inplace else Memory.NEW)


def activation(fn: str) -> Callable[..., OpChain]:
    """The reader of a φ without arguments."""

    def read(input: Ref, inplace: bool = False) -> OpChain:
        return _act(fn, (), input, inplace)

    return read


def leaky_relu(input: Ref, negative_slope: float = 0.01, inplace: bool = False) -> OpChain:
    """Leaky ReLU."""
    return _act("leaky_relu", (negative_slope,), input, inplace)


def elu(input: Ref, alpha: float = 1.0, inplace: bool = False) -> OpChain:
    """ELU."""
    return _act("elu", (alpha,), input, inplace)


def gelu(input: Ref, approximate: str = "none") -> OpChain:
    """GELU, the exact one."""
    only("approximate", approximate, "none")
    return _act("gelu", (), input, False)


def softplus(input: Ref, beta: float = 1, threshold: float = 20) -> OpChain:
    """Softplus with torch's own beta and threshold."""
    only("beta", beta, 1)
    only("threshold", threshold, 20)
    return _act("softplus", (), input, False)


def hardtanh(input: Ref, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> OpChain:
    """Hardtanh from 0 to 6, which is ReLU6."""
    if (min_val, max_val) != (0, 6):
        raise Refused(
            f"hardtanh from {min_val} to {max_val} is not in the vocabulary; use ReLU6 or another activation"
        )
    return _act("relu6", (), input, inplace)


def dropout(input: Ref, p: float = 0.5, training: bool = True, inplace: bool = False) -> OpChain:
    """Dropout that follows the module's training flag. The trace runs in eval mode, so `training` is then False."""
    if training:
        raise Refused("it drops out in eval mode too; use nn.Dropout, or pass training=self.training")
    return OpChain((ops.Dropout(float(p)),), (tensor(input),), Memory.SAME if inplace else Memory.VIEW)


def add(input: Any, other: Any, alpha: float = 1, inplace: bool = False) -> OpChain:
    """Sum of two tensors of one shape; 0 + x, with which Python's sum begins, is x."""
    only("alpha", alpha, 1)
    terms = [term for term in (input, other) if not (isinstance(term, (int, float)) and term == 0)]
    if len(terms) == 1 and not inplace:
        return OpChain((), (tensor(terms[0]),))
    return OpChain((ops.Add(),), (tensor(input), tensor(other)), Memory.SAME if inplace else Memory.NEW)


def multiply(input: Any, other: Any, inplace: bool = False) -> OpChain:
    """Product of two tensors."""
    return OpChain((ops.Multiply(),), (tensor(input), tensor(other)), Memory.SAME if inplace else Memory.NEW)


# -- windows -------------------------------------------------------------------------------------------


def max_pool2d(
    input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> OpChain:  # fmt: skip
    """Maximum over windows."""
    only("return_indices", return_indices, False)
    op = ops.MaxPool2d(
        pair(kernel_size), pair(stride or kernel_size), pair(padding), pair(dilation), bool(ceil_mode)
    )
    return OpChain((op,), (tensor(input),))


def avg_pool2d(
    input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> OpChain:  # fmt: skip
    """Mean over windows."""
    only("divisor_override", divisor_override, None)
    op = ops.AvgPool2d(
        pair(kernel_size),
        pair(stride or kernel_size),
        pair(padding),
        bool(ceil_mode),
        bool(count_include_pad),
    )
    return OpChain((op,), (tensor(input),))


def adaptive_avg_pool2d(input: Ref, output_size: Any) -> OpChain:
    """Mean over as many windows as `output_size` says; None keeps an axis."""
    return OpChain((ops.AdaptiveAvgPool2d(_adaptive(tensor(input), output_size)),), (input,))


def adaptive_max_pool2d(input: Ref, output_size: Any, return_indices: bool = False) -> OpChain:
    """Maximum over as many windows as `output_size` says; None keeps an axis."""
    only("return_indices", return_indices, False)
    return OpChain((ops.AdaptiveMaxPool2d(_adaptive(tensor(input), output_size)),), (input,))


def _adaptive(input: Ref, size: Any) -> Pair:
    _, *spatial = feature_map(input.shape, "adaptive pooling")
    wanted = size if isinstance(size, (tuple, list)) else (size, size)
    return pair([own if n is None else n for n, own in zip(wanted, spatial, strict=True)])


def mean(input: Ref, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> OpChain:
    """Mean over H and W, as global average pooling."""
    only("dtype", dtype, None)
    rank = 1 + len(tensor(input).shape)
    axes = dim if isinstance(dim, (tuple, list)) else (dim,)
    if rank != 4 or any(axis is None for axis in axes) or {int(axis) % rank for axis in axes} != {2, 3}:
        raise Refused(f"a mean over dim={dim} is not in the vocabulary; take it over (2, 3) of a feature map")
    pooled = ops.AdaptiveAvgPool2d((1, 1))
    return OpChain((pooled,) if keepdim else (pooled, ops.Flatten()), (input,), stem="mean")


# -- shapes --------------------------------------------------------------------------------------------


def flatten(input: Ref, start_dim: int = 0, end_dim: int = -1) -> OpChain:
    """Everything but the batch axis in one."""
    rank = 1 + len(tensor(input).shape)
    if (start_dim % rank, end_dim % rank) != (1, rank - 1):
        raise Refused(
            f"flattening dims {start_dim} to {end_dim} is not in the vocabulary; flatten all but the batch: dim 1 to -1"
        )
    return OpChain((ops.Flatten(),), (input,), Memory.VIEW)


def view(input: Ref, *shape: Any) -> OpChain:
    """A view or reshape that flattens all but the batch axis, or keeps the shape."""
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    own = tensor(input).shape
    if sizes and sizes[0] in (BATCH, -1) and BATCH not in sizes[1:] and sizes.count(-1) <= 1:
        known = math.prod(n for n in sizes[1:] if n != -1)
        rest = tuple(math.prod(own) // max(1, known) if n == -1 else n for n in sizes[1:])
        if rest == own:
            return OpChain((), (input,), Memory.VIEW)
        if rest == (math.prod(own),):
            return OpChain((ops.Flatten(),), (input,), Memory.VIEW)
    text = ", ".join(map(str, sizes))
    raise Refused(
        f"reshaping (B, {', '.join(map(str, own))}) to ({text}) is not in the vocabulary; "
        f"only x.view(x.size(0), -1) is: write gates on feature maps with 1x1 convolutions"
    )


def cat(tensors: Any, dim: int = 0) -> OpChain:
    """Tensors one after the other along C."""
    refs = tuple(tensor(ref) for ref in tensors)
    if not refs or dim % (1 + len(refs[0].shape)) != 1:
        raise Refused(f"concatenation along dim={dim} is not in the vocabulary; only dim=1 is")
    return OpChain((ops.Concat(),), refs)


def contiguous(input: Ref, memory_format: Any = None) -> OpChain:
    """The same numbers."""
    return OpChain((), (tensor(input),), Memory.VIEW)


def clone(input: Ref, memory_format: Any = None) -> OpChain:
    """The same numbers in memory of their own."""
    return OpChain((), (tensor(input),))


def size(input: Ref, dim: int | None = None) -> Any:
    """The shape (B, ...), or one axis of it."""
    full = (BATCH, *tensor(input).shape)
    return full if dim is None else full[dim]


def dim(input: Ref) -> int:
    """The number of axes, the batch among them."""
    return len(size(input))


def attribute(input: Ref, name: str) -> Any:
    """x.shape and x.ndim."""
    if name not in ("shape", "ndim"):
        raise Refused(f"the attribute {name} of a tensor is not in the vocabulary; only shape and ndim are")
    return size(input) if name == "shape" else dim(input)


# -- tables --------------------------------------------------------------------------------------------

Reader = Callable[..., Any]


def _inplace(reader: Reader) -> Reader:
    return partial(reader, inplace=True)


_PLAIN: Mapping[str, Reader] = {
    fn: activation(fn) for fn in ("relu", "relu6", "silu", "hardswish", "mish", "tanh", "sigmoid")
}

CALLS: Mapping[Any, Reader] = {  # functions by themselves, methods by name
    F.relu: _PLAIN["relu"], torch.relu: _PLAIN["relu"], torch.relu_: _inplace(_PLAIN["relu"]),
    "relu": _PLAIN["relu"], "relu_": _inplace(_PLAIN["relu"]), F.relu6: _PLAIN["relu6"],
    F.silu: _PLAIN["silu"], F.hardswish: _PLAIN["hardswish"], F.mish: _PLAIN["mish"],
    torch.tanh: _PLAIN["tanh"], torch.tanh_: _inplace(_PLAIN["tanh"]),
    "tanh": _PLAIN["tanh"], "tanh_": _inplace(_PLAIN["tanh"]),
    torch.sigmoid: _PLAIN["sigmoid"], torch.sigmoid_: _inplace(_PLAIN["sigmoid"]),
    "sigmoid": _PLAIN["sigmoid"], "sigmoid_": _inplace(_PLAIN["sigmoid"]),
    F.leaky_relu: leaky_relu, F.leaky_relu_: _inplace(leaky_relu), F.elu: elu, F.elu_: _inplace(elu),
    F.gelu: gelu, F.softplus: softplus, F.hardtanh: hardtanh, F.hardtanh_: _inplace(hardtanh),
    F.dropout: dropout,
    operator.add: add, torch.add: add, "add": add, operator.iadd: _inplace(add), "add_": _inplace(add),
    operator.mul: multiply, torch.mul: multiply, torch.multiply: multiply, "mul": multiply,
    "multiply": multiply, operator.imul: _inplace(multiply), "mul_": _inplace(multiply),
    F.max_pool2d: max_pool2d, torch.max_pool2d: max_pool2d, F.avg_pool2d: avg_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d, F.adaptive_max_pool2d: adaptive_max_pool2d,
    torch.mean: mean, "mean": mean,
    torch.flatten: flatten, "flatten": flatten, "view": view, "reshape": view, torch.reshape: view,
    torch.cat: cat, torch.concat: cat, torch.concatenate: cat,
    "contiguous": contiguous, "clone": clone, torch.clone: clone,
    "size": size, "dim": dim, getattr: attribute,
}  # fmt: skip

ARITHMETIC = frozenset((  # what may be done with the numbers in shapes
    operator.add, operator.sub, operator.mul, operator.iadd, operator.imul, operator.floordiv, operator.getitem,
    math.prod,
))  # fmt: skip
