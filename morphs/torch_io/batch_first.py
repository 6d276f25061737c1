"""The calls of a program with the batch as the first axis wherever that only takes reordering.

A forward may fold the batch into another axis (windows, heads), or put another axis before it. What works on each
position by itself computes the same on the tensor that has the batch first; reshapes and permutations in between are
put off until a call needs them. What isn't understood reads what it read before, made by the calls of before.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

from morphs.graph.aten import MAPWISE, POINTWISE
from morphs.torch_io.lazy import EXPANDED, RESHAPES, Lazy, expands, lengths, permutation, regroups
from morphs.torch_io.program import Call, Frame, Sym, Value, mapped
from morphs.torch_io.views import BATCH, View, whole

SINGLE = POINTWISE | {"dropout"}  # of one element, what else it is given being numbers
LAST = {"linear": "input", "layer_norm": "input", "rms_norm": "input", "addmm": "mat1", "matmul": "self"}  # fmt: skip
# what is done to parameters before they are put together with examples
ONCE = MAPWISE | {"cat", "select", "slice", "to", "_to_copy"}
CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))
SEVERAL = frozenset(("split", "split_with_sizes", "chunk", "unbind"))


def batch_first(
    calls: Iterable[Call], outputs: Iterable[Value], liftable: Callable[[Value], str]
) -> tuple[list[Call], list[Value]]:
    """The calls, and what they return.

    liftable: as what a tensor of the module's state may be a node of its own; "" where it may not.
    """
    values = Lazy(liftable)
    steps = _Steps(values)
    for call in calls:
        steps.step(call)
    return values.made, [values.exact(value) for value in outputs]


class _Steps:
    def __init__(self, values: Lazy) -> None:
        self.values = values

    def step(self, call: Call) -> None:
        """Take one more call in."""
        steps = (
            self._item,
            self._regrouped,
            self._learned,
            self._along,
            self._on_last,
            self._normed,
            self._pointwise,
            self._embedded,
            self._convolved,
            self._masked,
        )
        if call.target.startswith("morphs.") or not any(step(call) for step in steps):
            self.values.keep(call)

    # each of these returns whether it took the call in

    def _regrouped(self, call: Call) -> bool:
        source, order = call.args.get("self"), permutation(call)
        if (
            not regroups(call)
            or (not self.values.irregular(source) and call.out.shape)
            or call.out.size is None
        ):
            return False
        if self.values.opened(call):
            return True
        seen = self.values.seen(source, call.scope)
        if seen is None:
            return False
        base, view = seen
        if order is not None:
            return self.values.put(call, base, view.permuted(order))
        found = view.expanded(call.out.size) if expands(call) else view.regrouped(call.out.size)
        return found is not None and self.values.put(call, base, found)

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
            length: int = source.sizes[axis]
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
                "end": start + call.out.sizes[axis],
                "step": 1,
            }
        part = Call(target, given, call.out, call.scope, len(given))
        if not self._along(part):
            self.values.keep(part)
        return True

    def _learned(self, call: Call) -> bool:
        """Parts of what is the same for each example, several of them joined, or one of another size: as for each
        example by itself."""
        reads = call.reads()
        if (
            call.name not in ONCE
            or not call.out.sizes
            or not reads
            or any(value.sizes[:1] < (1,) for value in reads)
        ):
            return False
        mapwise = call.name in MAPWISE
        seen = [
            self.values.seen(value, call.scope) if self.values.irregular(value) else None for value in reads
        ]
        if any(s is None or s[1].batched for s in seen) or (mapwise and {v.sizes[0] for v in reads} != {1}):
            return False
        made: dict[int, Value] = {}
        for value, known in zip(reads, seen, strict=True):
            base, view = known or (value, whole(()))
            sizes = (-1, *value.sizes[mapwise:])
            made[id(value)] = self.values.formed(
                base, View(view.atoms, ((BATCH,), *view.axes[mapwise:])), call.scope[:-1], sizes
            )
        args = mapped(call.args, lambda value: made[id(value)])
        if "dim" in args and not mapwise:
            args["dim"] = call.args["dim"] % len(reads[0].sizes) + 1
        found = whole(call.out.sizes[mapwise:], batched=False)
        view = View(found.atoms, (*((),) * mapwise, *found.axes))
        return self.values.put(call, self.values.applied(call, args, (-1, *call.out.sizes[mapwise:])), view)

    def _along(self, call: Call) -> bool:
        """Part of one axis, or its mean."""
        source = call.args.get("self")
        if (
            call.name not in ("select", "slice", "mean")
            or not self.values.irregular(source)
            or call.out.size is None
        ):
            return False
        axes = call.args.get("dim")
        if axes is None or (call.name == "mean" and call.args["keepdim"]):
            return False
        main = self.values.main(source, call.scope)
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
        return self.values.put(call, self.values.applied(call, args, [-1, *sizes]), after)

    def _on_last(self, call: Call) -> bool:
        """What works along the last axis, by parameters."""
        slot = LAST.get(call.name)
        source = call.args.get(slot) if slot else None
        if (
            slot is None
            or not self.values.irregular(source)
            or len(call.args.get("normalized_shape", (1,))) != 1
        ):
            return False
        others = [value for value in call.reads() if value is not source]
        main = self.values.main(source, call.scope) if all(value.key for value in others) else None
        if main is None or len(main[1].axes[-1]) != 1 or BATCH in main[1].axes[-1] or call.out.size is None:
            return False
        base, view = main
        last = call.out.size[-1]
        if view.axes[-1] != view.atoms[-1:] or last < 2:
            return False
        made = self.values.applied(call, {**call.args, slot: base}, [*(base.size or ())[:-1], last])
        new = whole(made.shape)
        renamed = dict(zip(view.atoms, new.atoms, strict=True))
        after = View(new.atoms, tuple(tuple(renamed.get(atom, atom) for atom in axis) for axis in view.axes))
        return self.values.put(call, made, after)

    def _normed(self, call: Call) -> bool:
        """A batch norm of tokens, their axis folded into that of the batch: of a map with its channels first."""
        source = call.args.get("input")
        if call.name != "batch_norm" or not self.values.irregular(source) or len(source.size or ()) != 2:
            return False
        main = self.values.main(source, call.scope)
        if main is None:
            return False
        base, view = main
        if view.axes != ((BATCH, *view.atoms[:-1]), view.atoms[-1:]):
            return False
        *places, width = base.shape
        last, scope = len(places) + 1, call.scope[:-1]
        order = {"self": base, "dims": [0, last, *range(1, last)]}
        turned = self.values.emit("aten.permute.default", order, (-1, width, *places), scope)
        made = self.values.applied(call, {**call.args, "input": turned}, [-1, width, *places])
        back = {"self": made, "dims": [0, *range(2, last + 1), 1]}
        made = self.values.emit("aten.permute.default", back, (-1, *places, width), scope)
        new = whole(made.shape)
        return self.values.put(call, made, View(new.atoms, ((BATCH, *new.atoms[:-1]), new.atoms[-1:])))

    def _pointwise(self, call: Call) -> bool:
        if call.name not in SINGLE:
            return False
        given = call.reads()
        if len(given) == 1:
            if not self.values.irregular(given[0]) or given[0].size != call.out.size:
                return False
            main = self.values.main(given[0], call.scope)
            return main is not None and self.values.put(
                call,
                self.values.applied(call, mapped(call.args, lambda _: main[0]), main[0].size or ()),
                main[1],
            )
        if len(given) != 2 or given[0].dtype != given[1].dtype:
            return False
        return self._paired(call, given)

    def _paired(self, call: Call, given: list[Value]) -> bool:
        """Of two tensors: both alike, or one the same for each example."""
        seen = [
            self.values.seen(value, call.scope) if value.key or self.values.irregular(value) else None
            for value in given
        ]
        free = [s is not None and not s[1].batched for s in seen]
        if free in ([True, False], [False, True]):
            at = free.index(False)
            if not self.values.irregular(given[at]):
                found = self.values.aligned(seen[1 - at], given[at], call.scope)
                if found is None or call.out.size != self.values.replaced.get(id(given[at]), given[at]).size:
                    return False
                self.values.keep(replace(call, args=_with(call.args, given[1 - at], found)))
                return True
            return False
        if any(s is None for s in seen) or any(free):
            return False
        first, second = (self.values.main(value, call.scope) for value in given)
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
        return self.values.put(call, self.values.applied(call, args, first[0].size or ()), first[1])

    def _embedded(self, call: Call) -> bool:
        """Rows of an embedding at places that are the same for each example."""
        if call.name != "embedding" or not call.args["weight"].key:
            return False
        places = call.args["indices"]
        if not places.size or min(places.size) < 0 or prod(places.size) < 2:
            return False
        size = (-1, *places.size)
        args = {"self": self.values.exact(places), "size": lengths(size)}
        every = self.values.emit("aten.expand.default", args, size, call.scope[:-1])
        made = self.values.applied(call, {**call.args, "indices": every}, [*size, call.out.sizes[-1]])
        return self.values.put(call, made, whole(made.shape, batched=False))

    def _convolved(self, call: Call) -> bool:
        """A convolution, by parameters, of one map that is the same for each example."""
        source = call.args.get("input")
        if call.name not in CONVOLUTIONS or not isinstance(source, Value) or source.sizes[:1] != (1,):
            return False
        if (
            min(source.sizes) < 1
            or source.key
            or not all(value.key for value in call.reads() if value is not source)
        ):
            return False
        size, made = (-1, *source.sizes[1:]), self.values.exact(source)
        args = {"self": made, "size": lengths(size)}
        every = self.values.emit("aten.expand.default", args, size, call.scope[:-1])
        found = self.values.applied(call, {**call.args, "input": every}, (-1, *call.out.sizes[1:]))
        known = whole(found.shape)
        return self.values.put(call, found, View(known.atoms, ((), *known.axes[1:])))

    def _masked(self, call: Call) -> bool:
        """Attention with a mask that is the same for all heads, as one of a mask for each example without heads."""
        mask = call.args.get("attn_mask")
        if call.name != "scaled_dot_product_attention" or mask is None or not mask.size:
            return False
        q, k = (self.values.current(call.args[name]).shape for name in ("query", "key"))
        if len(q) != 3 or len(k) != 3:
            return False
        size, scope = (-1, q[1], k[1]), call.scope[:-1]
        flat = self._without_heads(mask, q[0], scope)
        if flat is None:
            return False
        if flat.sizes != size:
            flat = self.values.emit("aten.expand.default", {"self": flat, "size": lengths(size)}, size, scope)
        args = {"self": flat, "dim": 1}
        again = self.values.emit("aten.unsqueeze.default", args, (-1, 1, *size[1:]), scope)
        self.values.keep(replace(call, args={**call.args, "attn_mask": again}))
        return True

    def _without_heads(self, mask: Value, heads: int, scope: tuple[Frame, ...]) -> Value | None:
        """The mask along (examples or 1, queries or 1, keys or 1); None where heads have masks of their own."""
        sizes, made = mask.sizes, mask.call
        if heads > 1 and (sizes[:2] == (-1, heads) or sizes[:1] == (-heads,)) and made is not None:
            a = made.args
            if made.name == "add" and a["alpha"] == 1:
                return self._added([a["self"], a["other"]], heads, scope)
            expanded = made.name in EXPANDED and len(a["self"].sizes) == len(sizes)
            return self._without_heads(a["self"], heads, scope) if expanded or made.name in RESHAPES else None
        mask = self.values.exact(mask)
        sizes, made = mask.sizes, mask.call
        if (
            made is not None
            and made.name == "unsqueeze"
            and made.args["self"].sizes == (sizes[0], *sizes[2:])
        ):
            return made.args["self"]
        if len(sizes) == 4 and sizes[:2] == (-1, 1):
            args = {"self": mask, "dim": 1, "index": 0}
            return self.values.emit("aten.select.int", args, (-1, *sizes[2:]), scope)
        if len(sizes) > 1 and min(sizes) > 0 and sizes[:-2] in ((), (1,), (1, 1)):
            args = {"self": mask, "shape": [1, *sizes[-2:]]}
            return self.values.emit("aten.reshape.default", args, (1, *sizes[-2:]), scope)
        return None

    def _added(self, masks: list[Any], heads: int, scope: tuple[Frame, ...]) -> Value | None:
        found = [self._without_heads(mask, heads, scope) for mask in masks if isinstance(mask, Value)]
        known = [mask for mask in found if mask is not None]
        if len(known) < len(masks):
            return None
        size = (
            min(mask.sizes[0] for mask in known),
            *(max(at) for at in zip(*(m.sizes[1:] for m in known), strict=True)),
        )
        args = {"self": known[0], "other": known[1], "alpha": 1}
        return self.values.emit("aten.add.Tensor", args, size, scope)


def _with(args: Mapping[str, Any], old: Value, new: Value) -> dict[str, Any]:
    return mapped(dict(args), lambda value: new if value is old else value)
