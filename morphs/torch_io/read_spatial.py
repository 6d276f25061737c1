"""Readers of convolutions and pools of signals and volumes, and of transposed convolutions. See `read_calls`."""

from collections.abc import Callable, Mapping
from typing import Any

from morphs.graph import ops
from morphs.torch_io.arguments import data, held
from morphs.torch_io.program import Call, Made
from morphs.torch_io.reading import Refused, only

Sizes = tuple[int, ...]


def each(value: Any, rank: int) -> Sizes:
    """One number, or one for each axis, as one for each axis."""
    values = [int(item) for item in value] if isinstance(value, (list, tuple)) else [int(value)]
    found = tuple(values * rank if len(values) == 1 else values)
    if len(found) != rank:
        raise Refused(f"it has {value!r} for {rank} axes")
    return found


def conv(rank: int) -> Callable[[Call], Made]:
    """The reader of a convolution of `rank` spatial axes."""

    def read(call: Call) -> Made:
        a, source = call.args, data(call.args["input"], rank + 1)
        tensors = held(weight=a["weight"], bias=a["bias"])
        channels, _, *kernel = tensors["weight"].size or (0, 0)
        dilation = each(a["dilation"], rank)
        padding = a["padding"]
        if padding == "same":
            twice = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            if any(n % 2 for n in twice):
                raise Refused(f"padding='same' pads kernel {kernel} unevenly")
            padding = [n // 2 for n in twice]
        padding = (0,) * rank if padding == "valid" else each(padding, rank)
        op = ops.Conv(
            channels, tuple(kernel), each(a["stride"], rank), padding, dilation=dilation, groups=int(a["groups"]),
            bias="bias" in tensors,
        )  # fmt: skip
        return Made((op,), (source,), tensors)

    return read


def conv_transpose(rank: int) -> Callable[[Call], Made]:
    """The reader of a transposed convolution of `rank` spatial axes."""

    def read(call: Call) -> Made:
        a, source = call.args, data(call.args["input"], rank + 1)
        tensors = held(weight=a["weight"], bias=a["bias"])
        _, share, *kernel = tensors["weight"].size or (0, 0)
        groups = int(a["groups"])
        given = {name: each(a[name], rank) for name in ("stride", "padding", "output_padding", "dilation")}
        op = ops.ConvTranspose(share * groups, tuple(kernel), **given, groups=groups, bias="bias" in tensors)
        return Made((op,), (source,), tensors)

    return read


def pool(how: Any, rank: int) -> Callable[[Call], Made]:
    """The reader of a pooling of `rank` spatial axes."""

    def read(call: Call) -> Made:
        a, source = call.args, data(call.args["self"], rank + 1)
        only("divisor_override", a.get("divisor_override"), None)
        only("count_include_pad", a.get("count_include_pad", True), True)
        only("dilation", each(a.get("dilation", 1), rank), (1,) * rank)
        kernel = each(a["kernel_size"], rank)
        stride = each(a["stride"] or kernel, rank)
        return Made(
            (ops.Pool(how, kernel, stride, each(a["padding"], rank), bool(a["ceil_mode"])),), (source,)
        )

    return read


SPATIAL: Mapping[str, Callable[[Call], Made]] = {
    "conv1d": conv(1), "conv3d": conv(3),
    **{f"conv_transpose{rank}d": conv_transpose(rank) for rank in (1, 2, 3)},
    **{f"{how}_pool{rank}d": pool(how, rank) for how in ("max", "avg") for rank in (1, 3)},
}  # fmt: skip
