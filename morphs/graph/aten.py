"""What the vocabulary doesn't know: operators of PyTorch kept by name, and the tensors that they read.

A tensor whose first axis is the batch has a shape as everywhere, without that axis. Any other (a weight, a mask,
tokens with the batch in the middle) has the shape (), which no move touches; `size` tells the whole of it, a
negative number −k standing for k times the batch.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast

from morphs.errors import ShapeError
from morphs.graph.layers import Op
from morphs.graph.shapes import Shape
from morphs.graph.traits import Axis, Param, Role, Trait

NAME = re.compile(r"getitem|[A-Za-z_]\w*\.[A-Za-z_]\w*\.\w+", re.ASCII)

# What carries widths through.  Each output channel of these is the same function of the same channel of what they read:
POINTWISE = frozenset((  # of one element of each tensor, broadcast as usual
    "_to_copy", "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "celu", "clamp", "clamp_max",
    "clamp_min", "clone", "contiguous", "cos", "cosh", "deg2rad", "detach", "div", "elu", "erf", "erfc", "exp",
    "exp2", "expm1", "fmod", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log",
    "log10", "log1p", "log2", "log_sigmoid", "logit", "masked_fill", "maximum", "minimum", "mish", "mul", "nan_to_num",
    "neg", "pow", "reciprocal", "relu", "relu6", "remainder", "rsqrt", "rsub", "selu", "sigmoid", "sign", "silu", "sin",
    "sinc", "sinh", "softplus", "softshrink", "sqrt", "square", "sub", "tan", "tanh", "tanhshrink", "threshold",
    "to", "true_divide", "where", "xlogy",
))  # fmt: skip
MAPWISE = frozenset((  # of one channel of a feature map (C, H, W), whatever its size
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "reflection_pad2d", "replication_pad2d",
    "adaptive_avg_pool1d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool3d", "upsample_linear1d",
    "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "upsample_trilinear3d", "_upsample_nearest_exact2d",
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "zero_pad2d",
))  # fmt: skip
ACROSS: Mapping[str, str] = MappingProxyType({  # of all places along the axes that an argument names
    "amax": "dim", "amin": "dim", "cumsum": "dim", "flip": "dims", "index_select": "dim", "linalg_vector_norm": "dim",
    "log_softmax": "dim", "logsumexp": "dim", "mean": "dim", "roll": "dims", "slice": "dim", "softmax": "dim",
    "sum": "dim",
})  # fmt: skip
PRODUCTS = frozenset(
    ("bmm", "matmul")
)  # of rows of the first and columns of the second, along the last two axes
CARRYING = POINTWISE | MAPWISE | ACROSS.keys() | PRODUCTS | {"pad"}
FORBIDDEN = frozenset(("aten.from_file.default", "aten.from_file.out"))  # what reads files


@dataclass(frozen=True)
class Aten(Op):
    """An operator of PyTorch by its name, such as `aten.roll.default`, called with `args` and `kwargs`.

    Both are canonical JSON, a list and an object. In them {"tensor": i} is the i-th tensor that the node reads,
    {"batch": [k, c]} the number k·B + c for a batch of B, {"dtype": "own"} the type of the network's weights (or a
    type's name), {"device": "own"} where it runs, {"float": "inf"} a number that JSON lacks, and
    {"eval": a, "train": b} an argument that differs in the two modes. `getitem` picks one of several results.

    size: of what it writes, batch included; () where it is read off the inputs, 0 along an axis that is as long as the
    inputs' and along which the operator does the same at each place.

    dtype: "float" where it writes floating numbers (or several tensors), "complex", or the name of torch's type.
    """

    kind: ClassVar[str] = "aten"
    later: ClassVar[tuple[str, ...]] = ("dtype",)
    arity: ClassVar[tuple[int, int | None]] = (0, None)
    trait: ClassVar[Trait] = Trait.OPAQUE
    operator: str
    args: str = "[]"
    kwargs: str = "{}"
    size: Shape = ()
    dtype: str = "float"

    @property
    def stem(self) -> str:
        """The operator's name alone."""
        return self.operator.split(".")[1] if "." in self.operator else self.operator

    @property
    def multiplies(self) -> bool:
        """Whether it is a product of matrices."""
        return self.stem in PRODUCTS

    def carries(self, inputs: tuple[Shape, ...]) -> bool:
        """Whether it writes a width that it reads, channel by channel."""
        if self.stem not in CARRYING or not any(inputs):
            return False
        if not self.size:
            return self.stem in POINTWISE and all(inputs)
        return 0 in self.size and all(len(shape) in (0, len(self.size) - 1) for shape in inputs)

    def fixes(self, rank: int) -> tuple[int, ...]:
        """Axes of an input of `rank` axes whose length can't change."""
        if not self.size and self.stem in POINTWISE:
            return ()
        sizes = self.size[1:] if self.stem in CARRYING and len(self.size) == rank + 1 else (1,) * rank
        return tuple(axis for axis, size in enumerate(sizes) if size)

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """What was recorded, with the widths of the inputs where it carries those."""
        check_operator(self.operator, self.args, self.kwargs, len(inputs))
        if not self.carries(inputs):
            return regular(self.size)
        if not self.size:
            return broadcast(self.operator, inputs)
        known = common(self.stem, inputs, len(self.size) - 1)
        return tuple(size or whole for size, whole in zip(self.size[1:], known, strict=True))


@dataclass(frozen=True)
class Held(Op):
    """A parameter, buffer or constant that operators read as it is; it has no batch axis and the shape ().

    dtype: "float" for the type of the network's weights, or the name of a type of torch that isn't floating.
    """

    kind: ClassVar[str] = "tensor"
    arity: ClassVar[tuple[int, int | None]] = (0, 0)
    trait: ClassVar[Trait] = Trait.OPAQUE
    size: Shape
    source: Literal["parameter", "buffer", "constant"] = "parameter"
    dtype: str = "float"

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """None that a move may use."""
        if any(n < 0 for n in self.size):
            raise ShapeError(f"tensor has the size {self.size}; give sizes of 0 or more")
        return ()

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """value, of the declared size."""
        trained, whole = self.source == "parameter", None if self.dtype == "float" else self.dtype
        return {
            "value": Param(self.size, (Axis.NONE,) * len(self.size), trained, whole=whole, any=not trained)
        }


@dataclass(frozen=True)
class Outputs(Op):
    """Several tensors that the network returns, their widths fixed from outside.

    form: canonical JSON of what they are returned in: a number i stands for the i-th tensor, {"tuple": [...]},
    {"list": [...]} and {"dict": [[key, ...], ...]} for collections, {"constant": ...} for a number or text.
    """

    kind: ClassVar[str] = "outputs"
    arity: ClassVar[tuple[int, int | None]] = (1, None)
    trait: ClassVar[Trait] = Trait.SINK
    form: str

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """That of the first."""
        seen: list[int] = []
        _count(document("outputs", self.form), seen)
        if sorted(set(seen)) != list(range(len(inputs))):
            raise ShapeError(
                f"outputs has the form {self.form:.80} for {len(inputs)} tensors; name each of them"
            )
        return inputs[0]


@dataclass(frozen=True)
class DropPath(Op):
    """Stochastic depth (arXiv 1603.09382): in train mode all of an example is zero with probability p.

    mode: whether each example of a batch is drawn, or all together. scaled: whether what stays is divided by 1 − p.
    """

    kind: ClassVar[str] = "drop_path"
    role: ClassVar[Role] = Role.DROPOUT
    keeps_sign: ClassVar[bool] = True
    commutes_with_relu: ClassVar[bool] = True
    p: float
    mode: Literal["row", "batch"] = "row"
    scaled: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        if not 0 <= self.p < 1:
            raise ShapeError(f"drop_path has probability {self.p}; give a number from 0 to below 1")
        return inputs[0]


@dataclass(frozen=True)
class FrozenBatchNorm(Op):
    """Batch norm that uses its running statistics in train mode too, and leaves them as they are.

    trained: whether γ and β are parameters; else they are buffers (torchvision's FrozenBatchNorm2d).
    """

    kind: ClassVar[str] = "frozen_batch_norm"
    later: ClassVar[tuple[str, ...]] = ("trained",)
    eps: float = 1e-5
    affine: bool = True
    trained: bool = True

    def shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Kept."""
        if not self.eps > 0:
            raise ShapeError(f"frozen_batch_norm has eps {self.eps}; give a positive number")
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> dict[str, Param]:
        """γ (weight), β (bias), mean and variance, the count of batches."""
        one, shape, trained = (Axis.OUT,), (inputs[0][0],), self.trained
        weight = Param(shape, one, trainable=trained, start=1.0)
        params = {"weight": weight, "bias": Param(shape, one, trainable=trained)} if self.affine else {}
        count = {"num_batches_tracked": Param((), (), trainable=False, whole="int64")} if trained else {}
        return {
            **params,
            "running_mean": Param(shape, one, trainable=False),
            "running_var": Param(shape, one, trainable=False, start=1.0),
            **count,
        }


def regular(size: Shape) -> Shape:
    """`size` without the batch axis; () where that isn't the first, or the only one to depend on the batch."""
    return size[1:] if size[:1] == (-1,) and min(size[1:], default=0) > 0 else ()


def common(stem: str, inputs: tuple[Shape, ...], rank: int) -> Shape:
    """The lengths of what the inputs have in common along `rank` axes; a product has its rows of the first, and its
    columns of the second."""
    sizes = [max((shape[axis] for shape in inputs if shape), default=0) for axis in range(rank)]
    if stem in PRODUCTS and len(inputs) == 2 and all(len(shape) == rank > 1 for shape in inputs):
        sizes[-2:] = inputs[0][-2], inputs[1][-1]
    return tuple(sizes)


def broadcast(kind: str, inputs: tuple[Shape, ...]) -> Shape:
    """The common shape of tensors of one rank, axes of length 1 stretched."""
    rank = len(inputs[0])
    if any(len(shape) != rank for shape in inputs):
        raise ShapeError(f"{kind} reads {', '.join(map(str, inputs))}, which differ in rank; make them equal")
    widest = tuple(max(axis) for axis in zip(*inputs, strict=True))
    if any(n not in (1, most) for shape in inputs for n, most in zip(shape, widest, strict=True)):
        raise ShapeError(
            f"{kind} can't broadcast {', '.join(map(str, inputs))} to {widest}; make each size equal or 1"
        )
    return widest


def check_operator(operator: str, args: str, kwargs: str, inputs: int) -> None:
    """Refuse what is no operator's name, reads files, or has arguments that aren't those of its tensors."""
    if not NAME.fullmatch(operator) or operator in FORBIDDEN:
        raise ShapeError(f"aten: {operator!r:.80} is not an operator; give one such as aten.roll.default")
    positional, named = document("aten", args), document("aten", kwargs)
    if not isinstance(positional, list) or not isinstance(named, dict):
        raise ShapeError(f"aten: the arguments of {operator} are not a list and an object; give both")
    seen: list[int] = []
    _slots([positional, *cast(dict[str, Any], named).values()], seen)
    if set(seen) != set(range(inputs)):
        raise ShapeError(f"aten: {operator} reads {inputs} tensors and its arguments name others; name each")


def document(kind: str, text: str) -> Any:
    """The JSON value of `text`; ShapeError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ShapeError(f"{kind}: {text!r:.80} is not JSON; give a document") from None


def _slots(value: Any, seen: list[int]) -> None:
    if isinstance(value, list):
        for item in cast(list[Any], value):
            _slots(item, seen)
    elif isinstance(value, dict):
        known = cast(dict[str, Any], value)
        if "tensor" in known:
            if type(known["tensor"]) is not int:
                raise ShapeError(f"aten: {known['tensor']!r:.40} is not the number of a tensor; give one")
            seen.append(known["tensor"])


def _count(form: Any, seen: list[int]) -> None:
    if type(form) is int:
        seen.append(form)
    elif isinstance(form, list):
        for item in cast(list[Any], form):
            _count(item, seen)
    elif isinstance(form, dict):
        for kind, item in cast(dict[str, Any], form).items():
            if kind != "constant":
                _count(item, seen)
