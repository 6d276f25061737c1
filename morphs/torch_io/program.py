"""A module's forward as a list of calls of ATen operators, each of which makes new tensors and writes into none.

B batch. Sizes hold −k for k·B.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch

from morphs.graph.ops import Op
from morphs.graph.shapes import Shape
from morphs.torch_io.reading import Refused

Reads = Counter[int]  # of each value, by its id, how often it is read


class Frame(NamedTuple):
    """One module whose forward was running: the path, the class by its full name, how many calls of it came before."""

    path: str
    cls: str
    call: int


@dataclass(eq=False)
class Value:
    """What a call makes, or what the program is given.

    size: the whole of it, batch included; None of a list of tensors. key: in the module's state, of a parameter,
    buffer or constant.
    """

    size: Shape | None
    dtype: torch.dtype | None
    call: Call | None = None
    key: str = ""
    name: str = ""  # of an input
    stride: tuple[Any, ...] = ()

    @property
    def sizes(self) -> Shape:
        """The whole of its size; () of a list of tensors."""
        return () if self.size is None else self.size

    @property
    def shape(self) -> Shape:
        """Without the batch axis; () where that isn't the first axis, or the only one that depends on the batch."""
        size = self.size or ()
        return size[1:] if size[:1] == (-1,) and min(size[1:], default=0) > 0 else ()


@dataclass(frozen=True)
class Sym:
    """The number k·B + c."""

    k: int
    c: int = 0


@dataclass(frozen=True)
class Modes:
    """An argument that differs in eval and in train mode."""

    eval: Any
    train: Any


@dataclass(eq=False)
class Call:
    """A call of `target` (`aten.conv2d.default`, or `getitem`), its arguments bound by the names of the schema."""

    target: str
    args: dict[str, Any]
    out: Value
    scope: tuple[Frame, ...] = ()
    positional: int = 0  # how many of the arguments may be given by place

    @property
    def name(self) -> str:
        """The operator's name alone."""
        return self.target.split(".")[1] if "." in self.target else self.target

    @property
    def frame(self) -> Frame:
        """The innermost module."""
        return self.scope[-1] if self.scope else Frame("", "", 0)

    def reads(self) -> list[Value]:
        """The tensors it reads, in order, each as often as it is given."""
        return list(values_in(self.args))


@dataclass(frozen=True)
class Made:
    """What a call comes to: a chain of ops (none: it passes its input on), the first of which reads `reads`.

    tensors: the parameters and buffers of the first op, by the names it has for them.
    """

    ops: tuple[Op, ...]
    reads: tuple[Value, ...]
    tensors: Mapping[str, Value] = field(default_factory=dict[str, Any])
    stem: str = ""  # how to name the first op's node; by default after the op


@dataclass
class Program:
    """A forward: its inputs, the tensors of the module's state that it reads, its calls in order, and what it returns.

    form: of what it returns, as JSON values in which a number stands for an output.
    """

    inputs: list[Value]
    tensors: dict[str, Value]
    calls: list[Call] = field(default_factory=list[Call])
    outputs: list[Value] = field(default_factory=list[Value])
    form: Any = 0
    constants: dict[str, torch.Tensor] = field(
        default_factory=dict[str, torch.Tensor]
    )  # that no module holds
    written: dict[str, str] = field(
        default_factory=dict[str, str]
    )  # buffers it writes to, and in which module

    def live(self) -> list[Call]:
        """The calls that something returned depends on."""
        wanted, found = {id(value) for value in self.outputs}, list[Call]()
        for call in reversed(self.calls):
            if id(call.out) in wanted:
                found.append(call)
                wanted.update(map(id, call.reads()))
        return found[::-1]


def reads(calls: Iterable[Call], outputs: Iterable[Value]) -> Reads:
    """How often each value is read by the calls that the outputs depend on, and by these."""
    found: Reads = Counter(map(id, outputs))
    for call in reversed([*calls]):
        if found[id(call.out)]:
            found.update(map(id, call.reads()))
    return found


def values_in(given: Any) -> Iterator[Value]:
    """Every Value in nested arguments."""
    if isinstance(given, Value):
        yield given
    elif isinstance(given, dict):
        for item in cast(dict[Any, Any], given).values():
            yield from values_in(item)
    elif isinstance(given, (list, tuple)):
        for item in cast(list[Any], given):
            yield from values_in(item)


def mapped(given: Any, change: Any) -> Any:
    """Nested arguments with each Value changed."""
    if isinstance(given, Value):
        return change(given)
    if isinstance(given, dict):
        return {key: mapped(item, change) for key, item in cast(dict[Any, Any], given).items()}
    if isinstance(given, (list, tuple)):
        return [mapped(item, change) for item in cast(list[Any], given)]
    return given


def symbolic(number: Any) -> Any:
    """A torch.SymInt as k·B + c; other values as they are."""
    if not isinstance(number, torch.SymInt):
        return number
    expression = cast(Any, number).node.expr
    if expression.is_Integer:
        return int(expression)
    symbols = sorted(expression.free_symbols, key=str)
    at = [expression.subs(dict.fromkeys(symbols, n)) for n in (0, 1, 2, 12)]
    if not all(value.is_Integer for value in at) or at[3] - at[0] != 12 * (at[1] - at[0]):
        raise Refused(
            f"a size is {expression} for a batch of {', '.join(map(str, symbols))}; keep to multiples of it"
        )
    return Sym(int(at[1] - at[0]), int(at[0]))


def size_of(shape: Any) -> Shape:
    """A tensor's sizes, −k for k·B."""
    sizes: list[int] = []
    for number in shape:
        known = symbolic(number)
        if isinstance(known, Sym) and (known.c or known.k < 1):
            raise Refused("it puts examples of a batch together with something else; keep to whole batches")
        sizes.append(-known.k if isinstance(known, Sym) else int(known))
    return tuple(sizes)
