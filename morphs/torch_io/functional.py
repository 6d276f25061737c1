"""An exported graph as a program: calls that write in place are replaced by calls that make a new tensor.

Export keeps `relu_` and `add_`. Whoever reads the same memory afterwards must see what was written, also through a
view: each view remembers how it was made of what, so that it can be made again, and the write be put back through it.
"""

import operator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.utils import _pytree as pytree

from morphs.torch_io.fx_nodes import bound, operator_name, scope_of, storage, taken_out
from morphs.torch_io.program import Call, Frame, Program, Sym, Value, mapped, size_of, symbolic
from morphs.torch_io.reading import Refused

IGNORED = frozenset((
    "_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size",
    "_functional_assert_async", "sym_size", "sym_numel", "sym_stride", "sym_storage_offset",
))  # fmt: skip
NEW_NAMES = {"bernoulli_": "bernoulli.p", "normal_": "normal_functional.default"}
TAKEN = object()  # stands for a number taken out of a tensor
SAME = frozenset((
    "alias", "dropout", "feature_dropout", "alpha_dropout", "lift_fresh_copy", "contiguous", "to"))  # fmt: skip
SHAPES = frozenset(
    ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view", "view_as")
)


@dataclass(eq=False)
class Cell:
    """A tensor object of the traced program: its contents now, and of which other one it is a view, by which call."""

    value: Value
    base: "Cell | None" = None
    call: Call | None = None
    seen: Value | None = None  # the contents of the base that `value` was made from
    key: str = ""  # in the module's state


def read_program(exported: ExportedProgram) -> Program:
    """The program of an exported module. Raises Refused, or Misplaced saying where, for what can't be expressed."""
    return _Reader(exported).read()


class Misplaced(Exception):
    """What can't be expressed, and at which call."""

    def __init__(self, name: str, scope: tuple[Frame, ...], reason: Refused) -> None:
        super().__init__(str(reason))
        self.name, self.scope = name, scope


class _Reader:
    def __init__(self, exported: ExportedProgram) -> None:
        self.exported = exported
        self.cells: dict[Node, Any] = {}
        self.program = Program([], {})

    def read(self) -> Program:
        specs = {spec.arg.name: spec for spec in self.exported.graph_signature.input_specs}
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name])
        (returned,) = self._run(self.exported.graph_module, ())
        spec: Any = self.exported.call_spec.out_spec
        mutated = len(returned) - spec.num_leaves
        leaves = [self._contents(cell) for cell in returned[mutated:]]
        outputs = [leaf for leaf in leaves if isinstance(leaf, Value)]
        numbers = iter(range(len(outputs)))
        held = [Place(next(numbers)) if isinstance(leaf, Value) else leaf for leaf in leaves]
        self.program.outputs, self.program.form = outputs, plain_form(pytree.tree_unflatten(held, spec))
        return self.program

    def _placeholder(self, node: Node, spec: Any) -> None:
        meta: Any = node.meta["val"]
        if not isinstance(meta, torch.Tensor):
            self.cells[node] = None if meta is None else symbolic(meta)
            return
        if spec.kind is InputKind.USER_INPUT:
            value = self._value(meta, name=node.name)
            self.program.inputs.append(value)
        else:
            value = self._value(meta, key=str(spec.target))
            if spec.kind is InputKind.CONSTANT_TENSOR:
                held: Any = self.exported.constants[value.key]
                self.program.constants[value.key] = held
            self.program.tensors[value.key] = value
        self.cells[node] = Cell(value, key=value.key)

    def _value(self, meta: torch.Tensor, **given: Any) -> Value:
        return Value(size_of(meta.shape), meta.dtype, stride=tuple(map(str, meta.stride())), **given)

    # -- running the graph -----------------------------------------------------------------------------

    def _run(self, module: Any, outer: tuple[Frame, ...]) -> tuple[list[Any], ...]:
        for node in module.graph.nodes:
            if node.op == "output":
                return ([self._operand(item) for item in node.args[0]],)
            if node.op == "get_attr":
                self._attribute(module, node)
            elif node.op == "call_function":
                scope = scope_of(node) or outer
                try:
                    self._call(module, node, scope)
                except Refused as error:
                    raise Misplaced(operator_name(node)[1], scope, error) from None
        return ([],)

    def _attribute(self, module: Any, node: Node) -> None:
        held: Any = module
        for part in str(node.target).split("."):
            held = getattr(held, part)
        if isinstance(held, torch.Tensor):
            key = str(node.target)
            self.program.tensors[key] = value = self._value(held, key=key)
            self.program.constants[key] = held
            self.cells[node] = Cell(value, key=key)
        else:
            self.cells[node] = held

    def _operand(self, given: Any) -> Any:
        return self.cells[given] if isinstance(given, Node) else given

    def _contents(self, given: Any) -> Any:
        """Arguments with the present contents of each tensor."""
        if isinstance(given, Node):
            given = self.cells[given]
        if given is TAKEN:
            raise Refused(
                "it computes with a number taken out of a tensor (item, float, tolist); keep it a tensor"
            )
        if isinstance(given, Cell):
            return self._fresh(given)
        if isinstance(given, (list, tuple)):
            return [self._contents(item) for item in cast(list[Any], given)]
        if isinstance(given, dict):
            return {key: self._contents(item) for key, item in cast(dict[str, Any], given).items()}
        return symbolic(given)

    def _fresh(self, cell: Cell) -> Value:
        """What the tensor holds now: a view of what was written to is made again."""
        if cell.base is not None and cell.call is not None:
            base = self._fresh(cell.base)
            if base is not cell.seen:
                old, made = cell.seen, cell.call
                cell.value = self._emit(
                    made.target, mapped(made.args, lambda v: base if v is old else v), cell.value, made.scope,
                    made.positional,
                )  # fmt: skip
                cell.call, cell.seen = cell.value.call, base
        return cell.value

    def _emit(
        self, target: str, args: dict[str, Any], like: Value, scope: tuple[Frame, ...], positional: int
    ) -> Value:
        value = Value(like.size, like.dtype, stride=like.stride)
        value.call = Call(target, args, value, scope, positional)
        self.program.calls.append(value.call)
        return value

    def _call(self, module: Any, node: Node, scope: tuple[Frame, ...]) -> None:
        namespace, name = operator_name(node)
        meta: Any = node.meta.get("val")
        if namespace == "higher_order":
            self._nested(node, name, scope)
        elif node.target is operator.getitem:
            self._getitem(node, meta, scope)
        elif isinstance(meta, (torch.SymBool, torch.SymFloat)) or taken_out(meta):
            self.cells[node] = TAKEN
        elif isinstance(meta, (torch.SymInt, int, float, bool)) and not isinstance(meta, torch.Tensor):
            self.cells[node] = symbolic(meta)
        elif name in IGNORED:
            self.cells[node] = None
        else:
            self._tensors(node, meta, namespace, name, scope)

    def _nested(self, node: Node, name: str, scope: tuple[Frame, ...]) -> None:
        """A block under torch.no_grad() or a disabled autocast, read as if it stood there."""
        if name == "wrap_with_set_grad_enabled":
            enabled, inner, *given = node.args
            detached = not enabled
        elif name == "wrap_with_autocast" and node.args[2] is False:
            inner, *given = node.args[4:]
            detached = False
        else:
            what = "autocast inside a forward" if name == "wrap_with_autocast" else f"the operator {name}"
            raise Refused(f"{what} can't be kept in a copy; call it around the module instead")
        block = self.cells[cast(Node, inner)]
        places = [n for n in block.graph.nodes if n.op == "placeholder"]
        for place, item in zip(places, given, strict=True):
            self.cells[place] = self._operand(item)
        (results,) = self._run(block, scope)
        if detached:
            results = [self._detached(cell, scope) if isinstance(cell, Cell) else cell for cell in results]
        self.cells[node] = results

    def _detached(self, cell: Cell, scope: tuple[Frame, ...]) -> Cell:
        value = self._fresh(cell)
        return Cell(self._emit("aten.detach.default", {"self": value}, value, scope, 1))

    def _getitem(self, node: Node, meta: Any, scope: tuple[Frame, ...]) -> None:
        source: Any = self.cells[cast(Node, node.args[0])]
        index = cast(int, node.args[1])
        if isinstance(source, list):  # of a nested block
            self.cells[node] = cast(list[Any], source)[index]
            return
        if not isinstance(meta, torch.Tensor):
            self.cells[node] = symbolic(meta)
            return
        value = self._emit(
            "getitem", {"self": self._fresh(source), "index": index}, self._value(meta), scope, 2
        )
        self.cells[node] = Cell(value, source, value.call, source.value)

    def _tensors(self, node: Node, meta: Any, namespace: str, name: str, scope: tuple[Frame, ...]) -> None:
        target: Any = node.target
        if not hasattr(target, "_schema"):
            raise Refused(f"{name} is no operator of torch; write it with tensor operations")
        schema = target._schema
        arguments = bound(schema, node)
        written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        places = sum(not a.kwarg_only for a in schema.arguments)
        if name == "detach_":  # of a constant, which nothing has a gradient of
            self.cells[node] = self.cells[arguments["self"]]
            return
        if written:
            self._write(node, namespace, arguments, written, scope)
            return
        held = {key: self._contents(item) for key, item in arguments.items()}
        like = self._value(meta) if isinstance(meta, torch.Tensor) else Value(None, None)
        if name == "slice" and _whole(held):
            self.cells[node] = self.cells[cast(Node, node.args[0])]
            return
        value = self._emit(f"{namespace}.{name}.{target._overloadname}", held, like, scope, places)
        self.cells[node] = self._view(value, meta, arguments)

    def _view(self, value: Value, meta: Any, arguments: dict[str, Any]) -> Cell:
        """The tensor that holds `value`: a view of the first argument where they share memory."""
        first = next((a for a in arguments.values() if isinstance(a, Node)), None)
        base: Any = self.cells[first] if first is not None else None
        metas: list[Any] = [meta] if isinstance(meta, torch.Tensor) else list(meta or ())
        if first is None or not isinstance(base, Cell) or not metas:
            return Cell(value)
        given, made = first.meta.get("val"), metas[0]
        if not isinstance(given, torch.Tensor) or not isinstance(made, torch.Tensor):
            return Cell(value)
        shared = storage(made) == storage(given)
        return Cell(value, base, value.call, base.value) if shared else Cell(value)

    # -- writing ---------------------------------------------------------------------------------------

    def _write(
        self,
        node: Node,
        namespace: str,
        arguments: dict[str, Any],
        written: list[str],
        scope: tuple[Frame, ...],
    ) -> None:
        target: Any = node.target
        name = target._opname
        if len(written) != 1 or not name.endswith("_") or name.startswith("__"):
            raise Refused("it writes into tensors that it is given; use the form that returns a new one")
        cell: Cell = self.cells[arguments[written[0]]]
        if name == "copy_":
            self._put(cell, self._copied(self._contents(arguments["src"]), cell.value, scope))
            self._wrote(node, cell, scope)
            return
        new = NEW_NAMES.get(name, f"{name[:-1]}.{target._overloadname}")
        packet, _, overload = new.partition(".")
        functional: Any = getattr(getattr(getattr(torch.ops, namespace), packet, None), overload, None)
        if functional is None:
            raise Refused(f"{name} has no form that returns a new tensor; write the result to a new tensor")
        held = {key: self._contents(item) for key, item in arguments.items()}
        names = [a.name for a in functional._schema.arguments]
        bound = dict(zip(names, held.values(), strict=False))
        places = sum(not a.kwarg_only for a in functional._schema.arguments)
        value = self._emit(f"{namespace}.{new}", bound, cell.value, scope, places)
        self._put(cell, value)
        self._wrote(node, cell, scope)

    def _wrote(self, node: Node, cell: Cell, scope: tuple[Frame, ...]) -> None:
        self.cells[node] = cell
        if key := self._root(cell).key:
            self.program.written[key] = scope[-1].path if scope else ""

    def _copied(self, source: Value, into: Value, scope: tuple[Frame, ...]) -> Value:
        """`source` in the type and size of the tensor that it is copied into; aten.copy itself has no gradient."""
        if source.dtype != into.dtype:
            typed = Value(source.size, into.dtype)
            args = {
                "self": source,
                "dtype": into.dtype,
                "non_blocking": False,
                "copy": False,
                "memory_format": None,
            }
            source = self._emit("aten.to.dtype", args, typed, scope, 5)
        if source.size == into.size:
            return source
        args = {"self": source, "size": [Sym(-n) if n < 0 else n for n in into.sizes], "implicit": False}
        return self._emit("aten.expand.default", args, into, scope, 2)

    def _root(self, cell: Cell) -> Cell:
        return cell if cell.base is None else self._root(cell.base)

    def _put(self, cell: Cell, value: Value) -> None:
        """Let the tensor hold `value`, and what it is a view of accordingly."""
        if cell.base is None or cell.call is None:
            cell.value = value
            return
        base = self._fresh(cell.base)
        made = self._scattered(cell.call, base, value)
        self._put(cell.base, made)
        cell.value, cell.seen = value, made
        cell.call = Call(cell.call.target, mapped(cell.call.args, lambda v: made if v is base else v), value,
                         cell.call.scope, cell.call.positional)  # fmt: skip

    def _scattered(self, call: Call, base: Value, value: Value) -> Value:
        """`base` with `value` where `call` took its view from."""
        name, args = call.name, call.args
        if name in SAME and value.size == base.size:
            return value

        def emit(target: str, **given: Any) -> Value:
            return self._emit(target, given, base, call.scope, len(given))

        match name:
            case "slice":
                rest = {key: args[key] for key in ("dim", "start", "end", "step")}
                return emit("aten.slice_scatter.default", self=base, src=value, **rest)
            case "select":
                return emit(
                    "aten.select_scatter.default", self=base, src=value, dim=args["dim"], index=args["index"]
                )
            case "transpose" | "swapaxes":
                first, second = list(args.values())[1:3]
                return emit("aten.transpose.int", self=value, dim0=first, dim1=second)
            case "t":
                return emit("aten.t.default", self=value)
            case "permute":
                order = [n % len(args["dims"]) for n in args["dims"]]
                return emit(
                    "aten.permute.default", self=value, dims=[order.index(n) for n in range(len(order))]
                )
            case _ if name in SHAPES:
                sizes = [Sym(-n) if n < 0 else n for n in base.size or ()]
                return emit("aten.view.default", self=value, size=sizes)
            case _:
                raise Refused(f"it writes into a view that {name} made; write to a new tensor instead")


def _whole(args: dict[str, Any]) -> bool:
    return args.get("start") in (0, None) and args.get("end") in (None, 2**63 - 1) and args.get("step") == 1


@dataclass(frozen=True)
class Place:
    """Where a tensor is in what a module returns."""

    number: int


def plain_form(held: Any) -> Any:
    """What a module returns, as JSON values: dictionaries and records by their keys, other collections as lists."""
    if isinstance(held, Place):
        return held.number
    if held is None or isinstance(held, (int, float, str, bool)):
        return held if held is None else {"constant": held}
    if isinstance(held, dict):
        return {"dict": [[str(key), plain_form(item)] for key, item in cast(dict[Any, Any], held).items()]}
    if isinstance(held, (list, tuple)):
        kind = "list" if isinstance(held, list) else "tuple"
        return {kind: [plain_form(item) for item in cast(list[Any], held)]}
    if hasattr(held, "__dataclass_fields__"):
        return {"dict": [[key, plain_form(getattr(held, key))] for key in held.__dataclass_fields__]}
    raise Refused(
        f"it returns a {type(held).__name__}; let it return tensors, in tuples, lists or dictionaries"
    )
