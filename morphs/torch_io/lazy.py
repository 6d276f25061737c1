"""Tensors with the batch first in the place of a program's own, reshapes and permutations being put off."""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any, TypeGuard

from morphs.graph.shapes import Shape
from morphs.torch_io.program import Call, Frame, Sym, Value, mapped, values_in
from morphs.torch_io.views import BATCH, View, whole

LEARNED = "morphs.parameter"  # a parameter or buffer, the same for each example
REGROUPED = frozenset(
    ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as",
     "contiguous", "clone", "alias", "lift_fresh_copy")
)  # fmt: skip
CONVERTED = frozenset(("to", "_to_copy", "type_as"))  # the same numbers where the type stays
EXPANDED = frozenset(("expand", "expand_as"))
RESHAPES = frozenset(("view", "reshape", "_unsafe_view"))
COPIES = CONVERTED | {"contiguous", "clone", "alias"}  # of the same numbers, where the type stays
Scope = tuple[Frame, ...]


def bare(value: Any) -> Any:
    """What a tensor is a copy of, of the same type and shape."""
    while isinstance(value, Value) and value.call is not None and value.call.name in COPIES:
        source = value.call.args.get("self")
        if not isinstance(source, Value) or (source.dtype, source.size) != (value.dtype, value.size):
            return value
        value = source
    return value


def maker(value: Any) -> Call | None:
    """The call that made a tensor, copies of it aside."""
    return bare(value).call if isinstance(value, Value) else None


def permutation(call: Call) -> list[int] | None:
    """Which axis of what it reads each axis of what `call` writes is; None of other calls than permutations."""
    args, rank = call.args, len(call.out.size or ())
    match call.name:
        case "permute":
            return [axis % rank for axis in args["dims"]]
        case "transpose" | "swapaxes" | "swapdims" | "t" | "numpy_T" | "mT":
            places = [*args.values()][1:3] if call.name in ("transpose", "swapaxes", "swapdims") else (-2, -1)
            if call.name in ("t", "numpy_T") and rank != 2:
                return None
            order = [*range(rank)]
            first, second = (axis % rank for axis in places)
            order[first], order[second] = second, first
            return order
        case "movedim" | "moveaxis":
            source, target = ([p] if isinstance(p, int) else [*p] for p in [*args.values()][1:3])
            moved = {t % rank: s % rank for s, t in zip(source, target, strict=True)}
            rest = iter([axis for axis in range(rank) if axis not in moved.values()])
            return [moved[axis] if axis in moved else next(rest) for axis in range(rank)]
        case _:
            return None


def expands(call: Call) -> bool:
    """Whether it gives what it reads to each example, or leaves it as it is."""
    if call.name != "repeat":
        return call.name in EXPANDED
    source, times = call.args["self"].sizes, call.args["repeats"]
    each = len(times) == len(source) and source[:1] == (1,) and times[0] == Sym(1)
    return each and all(number == 1 for number in times[1:])


def regroups(call: Call) -> bool:
    """Whether it gives the numbers that it reads, in another order or along other axes."""
    source = call.args.get("self")
    same = call.name in CONVERTED and isinstance(source, Value) and source.dtype == call.out.dtype
    return same or call.name in REGROUPED or expands(call) or permutation(call) is not None


def lengths(sizes: Iterable[int]) -> list[Any]:
    """Sizes as arguments of a call."""
    return [Sym(-size) if size < 0 else size for size in sizes]


class Lazy:
    """The calls made so far, and what is in the place of each tensor of before.

    liftable: as what a tensor of the module's state may be a node of its own; "" where it may not.
    """

    def __init__(self, liftable: Callable[[Value], str]) -> None:
        self.liftable = liftable
        self.made: list[Call] = []
        self.views: dict[int, tuple[Value, View]] = {}  # of a value of before: which numbers, of what
        self.replaced: dict[int, Value] = {}  # by what is the same to the bit
        self.lifted: dict[str, Value] = {}
        self.canonical: dict[tuple[int, View], tuple[Value, View]] = {}

    def exact(self, value: Value) -> Value:
        """What is in the place of `value`, to the bit."""
        if id(value) in self.replaced or id(value) not in self.views:
            return self.replaced.get(id(value), value)
        if value.call is not None and self._plain(value):
            self.keep(value.call)
        else:
            spelled = self._spelled(value)
            self.replaced[id(value)] = self.replaced[id(spelled)] = spelled
            self.views[id(spelled)] = self.views[id(value)]  # who reads it reads what it was made from
        return self.replaced.get(id(value), value)

    def _plain(self, value: Value) -> bool:
        """Whether `value` comes of what is still computed, by calls that only regroup its numbers."""
        while id(value) in self.views and id(value) not in self.replaced:
            call = value.call
            if call is None or not self.views[id(value)][1].batched:
                return call is not None
            if not regroups(call) or not isinstance(call.args.get("self"), Value):
                return False
            value = call.args["self"]
        return True

    def _spelled(self, value: Value) -> Value:
        base, view = self.views[id(value)]
        scope = value.call.scope if value.call is not None else ()
        places = {atom: number for number, atom in enumerate((BATCH, *view.atoms))}
        found = self._reshaped(base, [atom.size for atom in view.atoms], scope)
        order = [places[atom] for axis in view.axes for atom in axis]
        sizes = [-1, *(atom.size for atom in view.atoms)]
        if order != sorted(order):
            found = self.emit(
                "aten.permute.default", {"self": found, "dims": order}, [sizes[n] for n in order], scope
            )
        size = value.size or ()
        return found if found.size == size else self.emit(
            "aten.reshape.default", {"self": found, "shape": lengths(size)}, size, scope
        )  # fmt: skip

    def seen(self, value: Any, scope: Scope) -> tuple[Value, View] | None:
        """Which numbers `value` is of a tensor that has the batch first; None where that isn't known."""
        if not isinstance(value, Value) or value.size is None:
            return None
        value = self.replaced.get(id(value), value)
        if id(value) in self.views:
            return self.views[id(value)]
        if value.key:
            return self._learned(value, scope) if self.liftable(value) else None
        if value.shape:
            return value, whole(value.shape)
        at = next((axis for axis, size in enumerate(value.size) if size < 0), None)
        if at is None or min(value.size[at + 1 :], default=1) < 1 or len(value.size) < 2 or not value.call:
            return None
        return self._opaque(value, at)

    def _learned(self, value: Value, scope: Scope) -> tuple[Value, View]:
        sizes = value.size or ()
        if value.key not in self.lifted:
            args = {"held": value, "source": self.liftable(value)}
            self.lifted[value.key] = self.emit(LEARNED, args, [-1, *sizes], scope[:-1])
        return self.lifted[value.key], whole(sizes, batched=False)

    def _opaque(self, value: Value, at: int) -> tuple[Value, View] | None:
        """A tensor of an operator that has the batch elsewhere, with the batch first."""
        if value.call is None:
            return None
        sizes, scope = list(value.size or ()), value.call.scope
        found = value
        if sizes[at] < -1:
            sizes[at : at + 1] = [-1, -sizes[at]]
            found = self.emit("aten.reshape.default", {"self": found, "shape": lengths(sizes)}, sizes, scope)
        if at:
            order = [at, *(axis for axis in range(len(sizes)) if axis != at)]
            sizes = [sizes[axis] for axis in order]
            found = self.emit("aten.permute.default", {"self": found, "dims": order}, sizes, scope)
        known = whole(sizes[1:])
        axes = [*known.axes[1:]]
        if (value.size or ())[at] < -1:
            axes[at : at + 1] = [(BATCH, *axes[at])]
        else:
            axes[at:at] = [(BATCH,)]
        self.views[id(value)] = found, View(known.atoms, tuple(axes))
        self.replaced[id(value)] = value
        return self.views[id(value)]

    def opened(self, call: Call) -> bool:
        """Whether `call` takes the batch out of the first axis of what an operator gives: it is kept for that."""
        source: Value = call.args["self"]
        value = self.replaced.get(id(source), source)
        sizes = value.sizes
        if (
            id(value) in self.views
            or value.key
            or not value.call
            or not sizes
            or min(sizes[1:], default=1) < 1
        ):
            return False
        if sizes[0] >= -1 or call.out.sizes != (-1, -sizes[0], *sizes[1:]):
            return False
        self.keep(call)
        known = whole(call.out.shape)
        self.views[id(value)] = call.out, View(known.atoms, ((BATCH, *known.axes[1]), *known.axes[2:]))
        self.replaced[id(value)] = value
        return True

    def main(self, value: Value, scope: Scope) -> tuple[Value, View] | None:
        """`value` with the batch first and its other axes in order, and its axes in terms of that."""
        seen = self.seen(value, scope)
        if seen is None or not seen[1].batched:
            return None
        base, view = seen
        key = id(base), view
        if key not in self.canonical:
            made = self.formed(
                base, View(view.atoms, ((BATCH,), *view.runs)), value.call.scope if value.call else ()
            )
            sizes = iter(whole(made.shape).axes[1:]) if min(made.shape, default=2) > 1 else None
            if sizes is None:
                return None
            runs = {run: next(sizes) for run in view.runs}
            axes = tuple(_renamed(axis, runs) for axis in view.axes)
            self.canonical[key] = made, View(tuple(a for run in runs.values() for a in run), axes)
        return self.canonical[key]

    def formed(self, base: Value, view: View, scope: Scope, sizes: Shape | None = None) -> Value:
        """A view that has the batch first, of `base`."""
        order = [view.atoms.index(atom) for axis in view.axes[1:] for atom in axis]
        if order != sorted(order):
            base = self._reshaped(base, [atom.size for atom in view.atoms], scope)
            size = [-1, *(view.atoms[place].size for place in order)]
            dims = [0, *(place + 1 for place in order)]
            base = self.emit("aten.permute.default", {"self": base, "dims": dims}, size, scope)
        axes = [prod(atom.size for atom in axis) for axis in view.axes[1:]] if sizes is None else sizes[1:]
        return self._reshaped(base, axes, scope)

    def _reshaped(self, base: Value, sizes: Iterable[int], scope: Scope) -> Value:
        size = (-1, *sizes)
        if size == base.size:
            return base
        return self.emit("aten.reshape.default", {"self": base, "shape": lengths(size)}, size, scope)

    def emit(self, target: str, args: dict[str, Any], size: Iterable[int], scope: Scope) -> Value:
        """What one more call gives."""
        source = next(values_in(args))
        value = Value(tuple(size), source.dtype)
        value.call = Call(target, args, value, scope, 2)
        self.made.append(value.call)
        return value

    def keep(self, call: Call) -> None:
        """Make a call as it was."""
        args = mapped(call.args, self.exact)
        target = call.target
        if target == "aten.view.default":  # memory may be laid out otherwise than before
            target, args = "aten.reshape.default", {"self": args["self"], "shape": args["size"]}
        call.out.call = Call(target, args, call.out, call.scope, call.positional)
        self.made.append(call.out.call)
        self.replaced[id(call.out)] = call.out

    def put(self, call: Call, base: Value, view: View) -> bool:
        """What `call` gives is `view` of `base`."""
        if view.regular and call.out.shape:
            self.replaced[id(call.out)] = self.formed(base, view, call.scope, call.out.size)
        else:
            call.out.call = call
            self.views[id(call.out)] = base, view
        return True

    def current(self, value: Value) -> Value:
        """What is in the place of `value` already; itself where nothing is."""
        return self.replaced.get(id(value), value)

    def irregular(self, value: Any) -> TypeGuard[Value]:
        """Whether it is a tensor that doesn't have the batch first, and alone."""
        return isinstance(value, Value) and not self.replaced.get(id(value), value).shape

    def applied(self, call: Call, args: dict[str, Any], size: Iterable[int]) -> Value:
        """What the operator of `call` gives for other arguments."""
        value = Value(tuple(size), call.out.dtype)
        value.call = Call(call.target, args, value, call.scope, call.positional)
        self.made.append(value.call)
        return value

    def aligned(self, seen: tuple[Value, View] | None, other: Value, scope: Scope) -> Value | None:
        """What is the same for each example, as a tensor of the rank of `other`."""
        if seen is None or prod(atom.size for atom in seen[1].atoms) == 1:
            return None
        base, view = seen
        other = self.replaced.get(id(other), other)
        rank = len(other.shape)
        axes = view.axes[-rank:]
        if any(axis for axis in view.axes[:-rank]):
            return None
        axes = (*(() for _ in range(rank - len(axes))), *axes)
        return self.formed(base, View(view.atoms, ((BATCH,), *axes)), scope[:-1])


def _renamed(axis: Any, runs: Mapping[Any, Any]) -> Any:
    at = axis.index(BATCH) if BATCH in axis else len(axis)
    found = [runs[run] if run else () for run in (axis[:at], axis[at + 1 :])]
    return (*found[0], *((BATCH,) if at < len(axis) else ()), *found[1])
