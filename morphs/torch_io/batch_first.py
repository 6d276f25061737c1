"""The calls of a program with the batch as the first axis wherever that only takes reordering.

A forward may fold the batch into another axis (windows, heads), or put another axis before it. What works on each
position by itself computes the same on the tensor that has the batch first; reshapes and permutations in between are
put off until a call needs them. What isn't understood reads what it read before, made by the calls of before.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from morphs.graph.aten import POINTWISE
from morphs.graph.shapes import Shape
from morphs.torch_io.program import Call, Frame, Sym, Value, mapped, values_in
from morphs.torch_io.views import BATCH, View, whole

LEARNED = "morphs.parameter"  # a parameter, the same for each example
REGROUPED = frozenset(
    ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as",
     "contiguous", "clone", "alias", "lift_fresh_copy")
)  # fmt: skip
CONVERTED = frozenset(("to", "_to_copy", "type_as"))  # the same numbers where the type stays
EXPANDED = frozenset(("expand", "expand_as"))
SINGLE = POINTWISE | {"dropout"}  # of one element, what else it is given being numbers
LAST = {"linear": "input", "layer_norm": "input", "rms_norm": "input", "addmm": "mat1", "matmul": "self"}  # fmt: skip
SEVERAL = frozenset(("split", "split_with_sizes", "chunk", "unbind"))
Scope = tuple[Frame, ...]


def batch_first(
    calls: Iterable[Call], outputs: Iterable[Value], liftable: Callable[[Value], bool]
) -> tuple[list[Call], list[Value]]:
    """The calls, and what they return. liftable: whether a tensor of the module's state may be a node of its own."""
    rewriting = _Rewriting(liftable)
    for call in calls:
        rewriting.step(call)
    return rewriting.made, [rewriting.exact(value) for value in outputs]


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


class _Rewriting:
    def __init__(self, liftable: Callable[[Value], bool]) -> None:
        self.liftable = liftable
        self.made: list[Call] = []
        self.views: dict[int, tuple[Value, View]] = {}  # of a value of before: which numbers, of what
        self.replaced: dict[int, Value] = {}  # by what is the same to the bit
        self.lifted: dict[str, Value] = {}
        self.canonical: dict[int, tuple[Value, View]] = {}

    def step(self, call: Call) -> None:
        """Take one more call in."""
        steps = (
            self._item,
            self._regrouped,
            self._along,
            self._on_last,
            self._pointwise,
            self._embedded,
            self._masked,
        )
        if call.target.startswith("morphs.") or not any(step(call) for step in steps):
            self._keep(call)

    # -- values ----------------------------------------------------------------------------------------

    def exact(self, value: Value) -> Value:
        """What is in the place of `value`, to the bit."""
        if id(value) in self.replaced or id(value) not in self.views:
            return self.replaced.get(id(value), value)
        if value.call is not None and self._plain(value):
            self._keep(value.call)
        else:
            self.replaced[id(value)] = self._spelled(value)
        return self.replaced.get(id(value), value)

    def _plain(self, value: Value) -> bool:
        """Whether `value` comes of what is still computed, by calls that only regroup its numbers."""
        while id(value) in self.views and id(value) not in self.replaced:
            call = value.call
            if call is None or not self.views[id(value)][1].batched:
                return call is not None
            if not _regroups(call) or not isinstance(call.args.get("self"), Value):
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
            found = self._emit(
                "aten.permute.default", {"self": found, "dims": order}, [sizes[n] for n in order], scope
            )
        size = value.size or ()
        return found if found.size == size else self._emit(
            "aten.reshape.default", {"self": found, "shape": _lengths(size)}, size, scope
        )  # fmt: skip

    def _seen(self, value: Any, scope: Scope) -> tuple[Value, View] | None:
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
            self.lifted[value.key] = self._emit(LEARNED, {"held": value}, [-1, *sizes], scope[:-1])
        return self.lifted[value.key], whole(sizes, batched=False)

    def _opaque(self, value: Value, at: int) -> tuple[Value, View] | None:
        """A tensor of an operator that has the batch elsewhere, with the batch first."""
        if value.call is None:
            return None
        sizes, scope = list(value.size or ()), value.call.scope
        found = value
        if sizes[at] < -1:
            sizes[at : at + 1] = [-1, -sizes[at]]
            found = self._emit(
                "aten.reshape.default", {"self": found, "shape": _lengths(sizes)}, sizes, scope
            )
        if at:
            order = [at, *(axis for axis in range(len(sizes)) if axis != at)]
            sizes = [sizes[axis] for axis in order]
            found = self._emit("aten.permute.default", {"self": found, "dims": order}, sizes, scope)
        known = whole(sizes[1:])
        axes = [*known.axes[1:]]
        if (value.size or ())[at] < -1:
            axes[at : at + 1] = [(BATCH, *axes[at])]
        else:
            axes[at:at] = [(BATCH,)]
        self.views[id(value)] = found, View(known.atoms, tuple(axes))
        self.replaced[id(value)] = value
        return self.views[id(value)]

    def _main(self, value: Value, scope: Scope) -> tuple[Value, View] | None:
        """`value` with the batch first and its other axes in order, and its axes in terms of that."""
        seen = self._seen(value, scope)
        if seen is None or not seen[1].batched:
            return None
        key = id(self.replaced.get(id(value), value))
        if key not in self.canonical:
            base, view = seen
            made = self._formed(
                base, View(view.atoms, ((BATCH,), *view.runs)), value.call.scope if value.call else ()
            )
            sizes = iter(whole(made.shape).axes[1:]) if min(made.shape, default=2) > 1 else None
            if sizes is None:
                return None
            runs = {run: next(sizes) for run in view.runs}
            axes = tuple(_renamed(axis, runs) for axis in view.axes)
            self.canonical[key] = made, View(tuple(a for run in runs.values() for a in run), axes)
        return self.canonical[key]

    def _formed(self, base: Value, view: View, scope: Scope, sizes: Shape | None = None) -> Value:
        """A view that has the batch first, of `base`."""
        order = [view.atoms.index(atom) for axis in view.axes[1:] for atom in axis]
        if order != sorted(order):
            base = self._reshaped(base, [atom.size for atom in view.atoms], scope)
            size = [-1, *(view.atoms[place].size for place in order)]
            dims = [0, *(place + 1 for place in order)]
            base = self._emit("aten.permute.default", {"self": base, "dims": dims}, size, scope)
        axes = [prod(atom.size for atom in axis) for axis in view.axes[1:]] if sizes is None else sizes[1:]
        return self._reshaped(base, axes, scope)

    def _reshaped(self, base: Value, sizes: Iterable[int], scope: Scope) -> Value:
        size = (-1, *sizes)
        if size == base.size:
            return base
        return self._emit("aten.reshape.default", {"self": base, "shape": _lengths(size)}, size, scope)

    def _emit(self, target: str, args: dict[str, Any], size: Iterable[int], scope: Scope) -> Value:
        source = next(values_in(args))
        value = Value(tuple(size), source.dtype)
        value.call = Call(target, args, value, scope, 2)
        self.made.append(value.call)
        return value

    def _keep(self, call: Call) -> None:
        args = mapped(call.args, self.exact)
        target = call.target
        if target == "aten.view.default":  # memory may be laid out otherwise than before
            target, args = "aten.reshape.default", {"self": args["self"], "shape": args["size"]}
        call.out.call = Call(target, args, call.out, call.scope, call.positional)
        self.made.append(call.out.call)
        self.replaced[id(call.out)] = call.out

    def _put(self, call: Call, base: Value, view: View) -> bool:
        """What `call` gives is `view` of `base`."""
        if view.regular and call.out.shape:
            self.replaced[id(call.out)] = self._formed(base, view, call.scope, call.out.size)
        else:
            call.out.call = call
            self.views[id(call.out)] = base, view
        return True

    def _irregular(self, value: Any) -> bool:
        return isinstance(value, Value) and not self.replaced.get(id(value), value).shape

    # -- calls: each returns whether it took the call in ------------------------------------------------

    def _regrouped(self, call: Call) -> bool:
        source, order = call.args.get("self"), permutation(call)
        if not _regroups(call) or (not self._irregular(source) and call.out.shape) or call.out.size is None:
            return False
        seen = self._seen(source, call.scope)
        if seen is None:
            return False
        base, view = seen
        if order is not None:
            return self._put(call, base, view.permuted(order))
        found = view.expanded(call.out.size) if call.name in EXPANDED else view.regrouped(call.out.size)
        return found is not None and self._put(call, base, found)

    def _item(self, call: Call) -> bool:
        """One of several parts along an axis, as a part by itself."""
        several = call.args["self"].call if call.target == "getitem" else None
        if several is None or several.name not in SEVERAL:
            return False
        args, index = several.args, call.args["index"]
        source, axis = args["self"], args["dim"] % len(args["self"].size or ())
        if several.name == "unbind":
            target, given = "aten.select.int", {"self": source, "dim": axis, "index": index}
        else:
            length = (source.size or ())[axis]
            given = [*args.values()][1]
            match several.name:
                case "chunk":
                    start = -(-length // given) * index
                case _ if isinstance(given, (list, tuple)):
                    start = sum(given[:index])
                case _:
                    start = given * index
            if length < 0 or isinstance(start, Sym):
                return False
            target = "aten.slice.Tensor"
            given = {
                "self": source,
                "dim": axis,
                "start": start,
                "end": start + (call.out.size or ())[axis],
                "step": 1,
            }
        part = Call(target, given, call.out, call.scope, len(given))
        if not self._along(part):
            self._keep(part)
        return True

    def _along(self, call: Call) -> bool:
        """Part of one axis, or its mean."""
        source = call.args.get("self")
        if (
            call.name not in ("select", "slice", "mean")
            or not self._irregular(source)
            or call.out.size is None
        ):
            return False
        axes = call.args.get("dim")
        if axes is None or (call.name == "mean" and call.args["keepdim"]):
            return False
        main = self._main(source, call.scope)
        if main is None:
            return False
        (base, view), rank = main, len(source.size or ())
        gone = {axis % rank for axis in ([axes] if isinstance(axes, int) else axes)}
        if any(len(view.axes[axis]) != 1 or BATCH in view.axes[axis] for axis in gone):
            return False
        places = {axis: view.atoms.index(view.axes[axis][0]) for axis in gone}
        dims = [place + 1 for place in places.values()]
        if call.name == "slice":
            (axis,) = gone
            sizes = [*base.shape]
            sizes[places[axis]] = call.out.size[axis]
            if min(sizes) < 2:
                return False
            known = whole(sizes)
            renamed = dict(zip(view.atoms, known.atoms, strict=True))
            after = View(known.atoms, tuple(tuple(renamed.get(a, a) for a in axis) for axis in view.axes))
        else:
            sizes = [size for place, size in enumerate(base.shape) if place not in places.values()]
            atoms = tuple(atom for place, atom in enumerate(view.atoms) if place not in places.values())
            after = View(atoms, tuple(axis for number, axis in enumerate(view.axes) if number not in gone))
        if not sizes:
            return False
        args = {**call.args, "self": base, "dim": dims if call.name == "mean" else dims[0]}
        return self._put(call, self._applied(call, args, [-1, *sizes]), after)

    def _applied(self, call: Call, args: dict[str, Any], size: Iterable[int]) -> Value:
        value = Value(tuple(size), call.out.dtype)
        value.call = Call(call.target, args, value, call.scope, call.positional)
        self.made.append(value.call)
        return value

    def _on_last(self, call: Call) -> bool:
        """What works along the last axis, by parameters."""
        slot = LAST.get(call.name)
        source = call.args.get(slot) if slot else None
        if slot is None or not self._irregular(source) or len(call.args.get("normalized_shape", (1,))) != 1:
            return False
        others = [value for value in call.reads() if value is not source]
        main = self._main(source, call.scope) if all(value.key for value in others) else None
        if main is None or len(main[1].axes[-1]) != 1 or BATCH in main[1].axes[-1] or call.out.size is None:
            return False
        base, view = main
        last = call.out.size[-1]
        if view.axes[-1] != view.atoms[-1:] or last < 2:
            return False
        made = self._applied(call, {**call.args, slot: base}, [*(base.size or ())[:-1], last])
        new = whole(made.shape)
        renamed = dict(zip(view.atoms, new.atoms, strict=True))
        after = View(new.atoms, tuple(tuple(renamed.get(atom, atom) for atom in axis) for axis in view.axes))
        return self._put(call, made, after)

    def _pointwise(self, call: Call) -> bool:
        if call.name not in SINGLE:
            return False
        given = call.reads()
        if len(given) == 1:
            if not self._irregular(given[0]) or given[0].size != call.out.size:
                return False
            main = self._main(given[0], call.scope)
            return main is not None and self._put(
                call, self._applied(call, mapped(call.args, lambda _: main[0]), main[0].size or ()), main[1]
            )
        if len(given) != 2 or given[0].dtype != given[1].dtype:
            return False
        return self._paired(call, given)

    def _paired(self, call: Call, given: list[Value]) -> bool:
        """Of two tensors: both alike, or one the same for each example."""
        seen = [
            self._seen(value, call.scope) if value.key or self._irregular(value) else None for value in given
        ]
        free = [s is not None and not s[1].batched for s in seen]
        if free in ([True, False], [False, True]):
            at = free.index(False)
            if not self._irregular(given[at]):
                found = self._aligned(seen[1 - at], given[at], call.scope)
                if found is None or call.out.size != self.replaced.get(id(given[at]), given[at]).size:
                    return False
                self._keep(replace(call, args=_with(call.args, given[1 - at], found)))
                return True
            return False
        if any(s is None for s in seen) or any(free):
            return False
        first, second = (self._main(value, call.scope) for value in given)
        if (
            first is None
            or second is None
            or first[0].size != second[0].size
            or given[0].size != given[1].size
        ):
            return False
        shapes = [[[atom.size for atom in axis] for axis in m[1].axes] for m in (first, second)]
        batch = [[BATCH in axis for axis in m[1].axes] for m in (first, second)]
        if shapes[0] != shapes[1] or batch[0] != batch[1]:
            return False
        args = _with(_with(call.args, given[0], first[0]), given[1], second[0])
        return self._put(call, self._applied(call, args, first[0].size or ()), first[1])

    def _aligned(self, seen: tuple[Value, View] | None, other: Value, scope: Scope) -> Value | None:
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
        return self._formed(base, View(view.atoms, ((BATCH,), *axes)), scope[:-1])

    def _embedded(self, call: Call) -> bool:
        """Rows of an embedding at places that are the same for each example."""
        if call.name != "embedding" or not call.args["weight"].key:
            return False
        places = call.args["indices"]
        if places.key or not places.size or min(places.size) < 0 or prod(places.size) < 2:
            return False
        size = (-1, *places.size)
        args = {"self": self.exact(places), "size": _lengths(size)}
        every = self._emit("aten.expand.default", args, size, call.scope[:-1])
        made = self._applied(call, {**call.args, "indices": every}, [*size, (call.out.size or ())[-1]])
        return self._put(call, made, whole(made.shape, batched=False))

    def _masked(self, call: Call) -> bool:
        """Attention with a mask that is the same for all heads, as one without heads."""
        mask = call.args.get("attn_mask")
        if call.name != "scaled_dot_product_attention" or mask is None or not mask.size:
            return False
        mask, scope = self.exact(mask), call.scope[:-1]
        sizes, made = mask.size or (), mask.call
        if made is not None and made.name == "unsqueeze" and made.args["self"].shape == mask.shape[1:]:
            return False
        if len(sizes) == 4 and sizes[:2] == (-1, 1):
            flat = self._emit(
                "aten.select.int", {"self": mask, "dim": 1, "index": 0}, (-1, *sizes[2:]), scope
            )
        elif min(sizes) > 0 and sizes[:-2] in ((), (1,), (1, 1)):
            args = {"self": mask, "shape": [1, *sizes[-2:]]}
            flat = self._emit("aten.reshape.default", args, (1, *sizes[-2:]), scope)
            size = (-1, *sizes[-2:])
            flat = self._emit("aten.expand.default", {"self": flat, "size": _lengths(size)}, size, scope)
        else:
            return False
        q, k = (self.replaced.get(id(v), v).shape for v in (call.args["query"], call.args["key"]))
        if len(q) != 3 or len(k) != 3 or flat.shape != (q[1], k[1]):
            return False
        size = (-1, 1, *flat.shape)
        again = self._emit("aten.unsqueeze.default", {"self": flat, "dim": 1}, size, scope)
        self._keep(replace(call, args={**call.args, "attn_mask": again}))
        return True


def _regroups(call: Call) -> bool:
    """Whether it gives the numbers that it reads, in another order or along other axes."""
    source = call.args.get("self")
    same = call.name in CONVERTED and isinstance(source, Value) and source.dtype == call.out.dtype
    return same or call.name in REGROUPED | EXPANDED or permutation(call) is not None


def _with(args: Mapping[str, Any], old: Value, new: Value) -> dict[str, Any]:
    return mapped(dict(args), lambda value: new if value is old else value)


def _renamed(axis: Any, runs: Mapping[Any, Any]) -> Any:
    at = axis.index(BATCH) if BATCH in axis else len(axis)
    found = [runs[run] if run else () for run in (axis[:at], axis[at + 1 :])]
    return (*found[0], *((BATCH,) if at < len(axis) else ()), *found[1])


def _lengths(sizes: Iterable[int]) -> list[Any]:
    return [Sym(-size) if size < 0 else size for size in sizes]
