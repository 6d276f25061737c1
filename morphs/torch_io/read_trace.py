"""A torch.fx trace as the nodes and weights of a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor
from torch.fx import Node as FxNode
from torch.fx.node import map_aggregate

from morphs.errors import GraphError, UnsupportedModule
from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Node, leading_to, natural_key
from morphs.graph.ops import Op, Shape
from morphs.network import Key, Network
from morphs.torch_io.read_calls import ARITHMETIC, CALLS
from morphs.torch_io.read_layers import read_layer, read_tensors
from morphs.torch_io.reading import Memory, OpChain, Ref, Refused
from morphs.torch_io.trace import Trace, legal_name, node_name, place, writes_in_place


@dataclass(frozen=True)
class Failure:
    """The value of a call that can't be read; an error only where something reads it."""

    error: UnsupportedModule


@dataclass(frozen=True)
class Layer:
    """Where the parameters of a node come from."""

    path: str
    tensors: Mapping[str, Tensor]


def read_trace(trace: Trace, sizes: Sequence[Shape]) -> Network:
    """The network of a trace whose first inputs have `sizes` (without the batch axis).

    Raises UnsupportedModule naming the module or function that can't be expressed.
    """
    reader = _TraceReader(trace, sizes)
    for node in trace.nodes:
        if node.op == "output":
            return reader.finish(node)
        reader.read(node)
    raise UnsupportedModule("from_torch: the module returns nothing; let it return a tensor")


class _TraceReader:
    """Goes through a trace in its order and keeps what each fx node stands for."""

    def __init__(self, trace: Trace, sizes: Sequence[Shape]) -> None:
        self.trace = trace
        self.values: dict[FxNode, Any] = {}
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.layers: dict[str, Layer] = {}
        self.taken: set[str] = set()
        self.paths = self._name_modules()
        inputs = [node for node in trace.nodes if node.op == "placeholder"][: len(sizes)]
        names = [self._claim(legal_name(str(node.target))) for node in inputs]
        if sorted(names, key=natural_key) != names:  # a network's inputs are ordered by name
            names = [self._claim(f"input{number}_{name}") for number, name in enumerate(names, 1)]
        for node, name, size in zip(inputs, names, sizes, strict=True):
            self._add(name, ops.Input(size), ())
            self.values[node] = _new(name, size)
        self.output = self._claim("output")

    # -- names -----------------------------------------------------------------------------------------

    def _name_modules(self) -> dict[str, str]:
        """A node name for each module that is called: its own path, wherever that is a name."""
        called = dict.fromkeys(str(node.target) for node in self.trace.nodes if node.op == "call_module")
        return {path: self._claim(node_name(path)) for path in called}

    def _claim(self, name: str) -> str:
        """`name`, or the first of name_2, name_3, … that is free."""
        free, number = name, 2
        while free in self.taken:
            free, number = f"{name}_{number}", number + 1
        self.taken.add(free)
        return free

    # -- reading ---------------------------------------------------------------------------------------

    def read(self, node: FxNode) -> None:
        """Take in one fx node. One that can't be read is an error where it changes what others read."""
        if node in self.values:
            return
        try:
            self.values[node] = self._value(node)
        except (Refused, GraphError, UnsupportedModule) as error:
            failure = error if isinstance(error, UnsupportedModule) else self._failure(node, error)
            written = node.all_input_nodes[:1] if writes_in_place(self.trace, node) else []
            if any(isinstance(self.values[source], Ref) for source in written):
                raise failure from None
            self.values[node] = Failure(failure)

    def _failure(self, node: FxNode, error: Exception) -> UnsupportedModule:
        remedy = "" if "; " in str(error) else "; give it tensors of shapes that fit"
        return UnsupportedModule(f"{place(self.trace, node)}: {error}{remedy}")

    def _value(self, node: FxNode) -> Any:
        if node.op == "placeholder":
            raise Refused("this input was given no example; add one to example_inputs")
        if node.op == "get_attr":
            raise Refused("it is used outside of a layer; hold it in a layer (nn.Conv2d, nn.Linear, …)")
        args = cast(tuple[Any, ...], map_aggregate(node.args, self._operand))
        kwargs = cast(dict[str, Any], map_aggregate(node.kwargs, self._operand))
        if node.op == "call_module":
            return self._call_module(node, [*args, *kwargs.values()])
        known = node.target in ARITHMETIC and not _holds_tensor((args, kwargs))
        if not known and node.target not in CALLS:
            raise Refused(
                "it is not in the vocabulary; write it with layers that are, or leave the part outside"
            )
        function = cast(Callable[..., Any], node.target) if known else CALLS[node.target]
        try:
            value = function(*args, **kwargs)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise Refused(
                f"it can't be read with these arguments ({error}); keep to sizes, and not that of the batch"
                if known
                else f"it can't be read with these arguments ({error}); leave out the unusual ones"
            ) from None
        return (
            self._emit(value, self.trace.scopes.get(node.name, "")) if isinstance(value, OpChain) else value
        )

    def _operand(self, value: Any) -> Any:
        if not isinstance(value, FxNode):
            return value
        found = self.values[value]
        if isinstance(found, Failure):
            raise found.error
        return found

    def _call_module(self, node: FxNode, given: list[Any]) -> Ref:
        refs = [value for value in given if isinstance(value, Ref)]
        if not refs or len(refs) != len(given):
            raise Refused(f"it is called with {len(given)} arguments; call it with one tensor")
        path = str(node.target)
        module = self.trace.module.get_submodule(path)
        shapes = tuple(ref.shape for ref in refs)
        made = read_layer(module, *refs)
        if not made.ops:
            return self._emit(made, "")
        made.ops[0].shape(shapes)  # before the weights are looked at
        tensors = read_tensors(module, made.ops[0], shapes[0])
        return self._emit(made, "", Layer(path, tensors))

    # -- building --------------------------------------------------------------------------------------

    def _emit(self, made: OpChain, scope: str, layer: Layer | None = None) -> Ref:
        """Add the nodes of `made`, and say which tensor the program now holds them in."""
        first = made.reads[0]
        name, shape = first.name, first.shape
        reads = tuple(ref.name for ref in made.reads)
        for number, op in enumerate(made.ops):
            shape = op.shape(tuple(self.shapes[source] for source in reads))
            if layer is None:
                stem = made.stem if made.stem and number == 0 else op.phi or op.kind
                name = self._claim(f"{node_name(scope)}.{stem}" if scope else stem)
            else:
                name = self.paths[layer.path]
                name = self._claim(name) if name in self.nodes else name
                self.layers[name] = layer
            self._add(name, op, reads)
            reads = (name,)
        if made.memory is Memory.NEW:
            return _new(name, shape)
        if made.memory is Memory.VIEW:
            ref = Ref(name, shape, first.family)
            first.family.append(ref)
            return ref
        if made.ops:  # the tensor is written over: who holds it sees the new contents
            if shape != first.shape:
                raise Refused(f"it writes {shape} into a tensor of shape {first.shape}; drop the inplace")
            for other in first.family:
                other.stale = other.stale or other is not first
            first.name = name
        return first

    def _add(self, name: str, op: Op, reads: tuple[str, ...]) -> None:
        self.shapes[name] = op.shape(tuple(self.shapes[source] for source in reads))
        self.nodes[name] = Node(name, op, reads)

    def finish(self, node: FxNode) -> Network:
        """The network of everything the output depends on."""
        returned = node.args[0]
        if not isinstance(returned, FxNode):
            kind = type(returned).__name__.removeprefix("immutable_")  # fx's own dicts and lists
            raise UnsupportedModule(
                f"from_torch: the module returns a {kind}; wrap it so that it returns one tensor"
            )
        value = self._operand(returned)
        if not isinstance(value, Ref):
            raise UnsupportedModule(f"from_torch: the module returns {value!r:.40}; let it return a tensor")
        if value.stale:
            raise UnsupportedModule(
                "from_torch: what the module returns was changed in place through another view; drop the inplace=True"
            )
        self._add(self.output, ops.Output(), (value.name,))
        live = leading_to(self.output, self.nodes)
        for name, made in self.nodes.items():
            if isinstance(made.op, ops.Input) and name not in live:
                raise UnsupportedModule(
                    f'from_torch: the output does not depend on input "{name}"; leave it out'
                )
        return self._network([made for name, made in self.nodes.items() if name in live])

    def _network(self, nodes: list[Node]) -> Network:
        """The network of `nodes`, in the order of the trace: the first use of a module owns its parameters."""
        owners: dict[str, str] = {}
        weights: dict[Key, Tensor] = {}
        owned: list[Node] = []
        for node in nodes:
            layer = self.layers.get(node.name)
            if layer is None or not layer.tensors:
                owned.append(node)
                continue
            owner = owners.setdefault(layer.path, node.name)
            owned.append(replace(node, owner=owner))
            if owner == node.name:
                for name, tensor in layer.tensors.items():
                    weights[owner, name] = tensor.detach().to("cpu", copy=True).contiguous()
        self._refuse_ties(owners.values())
        return Network(ArchGraph(owned), weights)

    def _refuse_ties(self, owners: Any) -> None:
        """Two modules with one parameter would become two by a copy."""
        seen: dict[int, str] = {}
        for owner in owners:
            layer = self.layers[owner]
            for name, tensor in layer.tensors.items():
                if tensor.numel() and seen.setdefault(tensor.data_ptr(), layer.path) != layer.path:
                    raise UnsupportedModule(
                        f'from_torch: module "{layer.path}": it shares its {name} with module '
                        f'"{seen[tensor.data_ptr()]}"; call one module twice instead'
                    )


def _new(name: str, shape: Shape) -> Ref:
    ref = Ref(name, shape)
    ref.family.append(ref)
    return ref


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_tensor(item) for item in cast(dict[str, Any], value).values())
    if isinstance(value, (tuple, list)):
        return any(_holds_tensor(item) for item in cast(list[Any], value))
    return isinstance(value, (Ref, Tensor))
