"""A call that the vocabulary doesn't know as an `aten` op: its operator's name, its arguments as JSON."""

from math import isfinite
from typing import Any, cast

import torch

from morphs.errors import ShapeError
from morphs.graph.aten import ACROSS, CARRYING, MAPWISE, POINTWISE, PRODUCTS, Aten, broadcast, common
from morphs.graph.codec import canonical_json
from morphs.graph.shapes import Shape
from morphs.torch_io.aten_call import find_operator
from morphs.torch_io.program import Call, Made, Modes, Sym, Value
from morphs.torch_io.reading import Refused

RANDOM = torch.Tag.nondeterministic_seeded
LEFT_OUT = frozenset(("layout", "pin_memory", "non_blocking"))


def read_aten(call: Call, own: torch.dtype) -> Made:
    """The call as it stands. own: the floating type of the module's weights."""
    reads: list[Value] = []
    encode = _Encoder(reads, own)
    if call.target == "getitem":
        args = [encode.value(call.args["self"]), call.args["index"]]
        op = Aten("getitem", canonical_json(args), size=_recorded(call), dtype=kept_type(call.out.dtype))
        return Made((op,), tuple(reads), stem="item")
    function = find_operator(call.target)
    schema = {a.name: a for a in function._schema.arguments}
    if RANDOM in function.tags and not _settled(call):
        raise Refused("it draws random numbers in eval mode too; draw them outside, or in train mode alone")
    given = {
        name: value
        for name, value in call.args.items()
        if name not in LEFT_OUT or not schema[name].kwarg_only
    }
    positional = [name for name in given if not schema[name].kwarg_only]
    while positional and _default(schema[positional[-1]], given[positional[-1]]):
        positional.pop()
    args = [encode.value(given[name]) for name in positional]
    kwargs = {
        name: encode.value(value)
        for name, value in given.items()
        if schema[name].kwarg_only and not _default(schema[name], value)
    }
    size = _read_off(call, reads)
    size = _recorded(call) if size is None else size
    op = Aten(call.target, canonical_json(args), canonical_json(kwargs), size, kept_type(call.out.dtype))
    return Made((op,), tuple(reads), stem=call.name)


def _settled(call: Call) -> bool:
    """Whether what may draw random numbers does so in train mode alone, or never."""
    flags = [v for n, v in call.args.items() if n in ("train", "training", "dropout_p", "use_input_stats")]
    return any(flag is False or flag == 0 or (isinstance(flag, Modes) and not flag.eval) for flag in flags)


def _recorded(call: Call) -> Shape:
    return call.out.size or ()


def kept_type(kind: torch.dtype | None) -> str:
    """The type to record in a graph: what stays when the network's floating type changes."""
    if kind is None or kind.is_floating_point:
        return "float"
    return "complex" if kind.is_complex else str(kind).removeprefix("torch.")


def _read_off(call: Call, reads: list[Value]) -> Shape | None:
    """The size to record where the operator carries widths; None where it doesn't."""
    shapes = tuple(value.shape for value in reads)
    out = call.out.shape
    if not out or call.name not in CARRYING or not any(shapes):
        return None
    if call.name in POINTWISE and all(shapes):
        try:
            return () if broadcast(call.name, shapes) == out else None
        except ShapeError:
            return None
    if any(shape and len(shape) != len(out) for shape in shapes):
        return None
    fixed = _fixed(call, reads)
    whole = common(call.name, shapes, len(out))
    size = tuple(n if axis in fixed or n != whole[axis] else 0 for axis, n in enumerate(out))
    return (-1, *size) if 0 in size else None


def _fixed(call: Call, reads: list[Value]) -> set[int]:
    """The axes, the batch not counted, along which it does not do the same at each place."""
    rank, args = len(call.out.shape), call.args
    if call.name in MAPWISE:
        return set(range(1, rank)) if len(reads) == 1 else set(range(rank))
    if call.name == "pad":
        return {rank - 1 - place // 2 for place, amount in enumerate(args["pad"]) if amount}
    if call.name in PRODUCTS:
        whole = len(reads) == 2 and rank > 1 and all(len(value.shape) == rank for value in reads)
        return set() if whole else set(range(rank))
    if call.name in ACROSS:
        dims = args.get(ACROSS[call.name])
        places = {dim % (rank + 1) - 1 for dim in ([dims] if isinstance(dims, int) else dims or ())}
        alone = len(reads) == 1 and places and -1 not in places
        return places if alone else set(range(rank))
    free = [value.size or () for value in reads if not value.shape]  # the same for each example
    if any(
        min(size, default=1) < 0 or len(size) > rank + 1 or size[: max(len(size) - rank, 0)] not in ((), (1,))
        for size in free
    ):
        return set(range(rank))
    return {rank - 1 - back for size in free for back, n in enumerate(size[::-1][:rank]) if n != 1}


def _default(argument: Any, value: Any) -> bool:
    if not argument.has_default_value():
        return False
    usual = argument.default_value
    return type(usual) is type(value) and usual == value


class _Encoder:
    """Arguments as JSON values; the tensors among them are collected."""

    def __init__(self, reads: list[Value], own: torch.dtype) -> None:
        self.reads, self.own = reads, own

    def value(self, given: Any) -> Any:
        """A JSON value."""
        match given:
            case Value():
                if not any(given is known for known in self.reads):
                    self.reads.append(given)
                return {"tensor": next(i for i, known in enumerate(self.reads) if given is known)}
            case Sym():
                return {"batch": [given.k, given.c]}
            case Modes():
                return {"eval": self.value(given.eval), "train": self.value(given.train)}
            case torch.dtype():
                own = given == self.own
                return {"dtype": "own" if own else str(given).removeprefix("torch.")}
            case torch.device():
                return {"device": "own"}
            case torch.memory_format():
                return {"memory_format": str(given).removeprefix("torch.")}
            case float():
                return given if isfinite(given) else {"float": str(given)}
            case None | bool() | int() | str():
                return given
            case list() | tuple():
                return [self.value(item) for item in cast(list[Any], given)]
            case _:
                raise Refused(f"an argument is a {type(given).__name__}; give numbers and tensors")
