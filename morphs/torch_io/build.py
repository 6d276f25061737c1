"""A program as the nodes and weights of a network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from morphs.errors import GraphError, UnsupportedModule
from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.codec import canonical_json
from morphs.graph.node import Node, leading_to
from morphs.network import Key, Network
from morphs.torch_io.apart import called
from morphs.torch_io.batch_first import batch_first
from morphs.torch_io.functional import Misplaced
from morphs.torch_io.lazy import LEARNED
from morphs.torch_io.lifted import gives_width, lifted_buffers
from morphs.torch_io.names import input_names, legal_name, node_name
from morphs.torch_io.program import Call, Frame, Made, Program, Value
from morphs.torch_io.read_aten import kept_type, read_aten
from morphs.torch_io.read_calls import CALLS
from morphs.torch_io.read_normed import home
from morphs.torch_io.reading import Refused
from morphs.torch_io.roles import with_roles
from morphs.torch_io.units import OWN, UNIT, read_unit
from morphs.torch_io.whole_layers import whole_layers

COUNT = "num_batches_tracked"


@dataclass(frozen=True)
class Source:
    """Where a program comes from: its module, the tensors of its state by key, and the names that a copy remembers.

    order: the keys of parameters and buffers as the module lists them.
    """

    module: nn.Module
    tensors: Mapping[str, torch.Tensor]
    kinds: Mapping[str, str]
    order: tuple[str, ...]
    names: Mapping[str, Any]
    dtype: torch.dtype


@dataclass
class _Reading:
    call: Call
    made: Made
    path: str | None  # of the module that holds the op's parameters, or what their keys begin with
    place: Any = None  # the same for two calls of one layer


def read_network(program: Program, source: Source, inputs: Iterable[str], attention: bool = True) -> Network:
    """The network of `program`, whose inputs are called `inputs`. attention: see `whole_layers`."""
    wanted, bare = [*inputs], set[str]()
    calls = whole_layers(program, source.kinds, attention)
    while True:
        builder = _Builder(program, calls, source, wanted, bare)
        network = builder.build()
        useless = {key for key, node in builder.buffers().items() if not gives_width(network.graph, node)}
        if not useless:
            return network
        bare = builder.bare | useless


class _Builder:
    """Reads `calls`. bare: the keys of tensors that are no nodes with a width, but read by operators as they are."""

    def __init__(
        self, program: Program, calls: list[Call], source: Source, inputs: list[str], bare: set[str]
    ) -> None:
        self.program, self.calls, self.source, self.bare = program, calls, source, {*bare}
        self.names = source.names
        self.taken: set[str] = set()
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.written: dict[int, str] = {}  # of each value, the node that makes it
        self.held: dict[str, str] = {}  # of each tensor that is a node, that node
        self.owners: dict[tuple[str, Any], str] = {}
        self.homes: dict[str, str] = {}  # of each owner, the node that has the name of the parameters' module
        self.tensors: dict[Key, str] = {}  # where each parameter of the network comes from
        self._inputs(inputs)
        self.output = self._claim(self.names.get("output", "output"))

    def _inputs(self, wanted: list[str]) -> None:
        names = self.names.get("inputs") or input_names([self._claim(legal_name(name)) for name in wanted])
        self.taken.update(names)
        for value, name in zip(self.program.inputs, names, strict=True):
            if value.size is None or value.size[:1] != (-1,):
                raise UnsupportedModule(
                    f'from_torch: the forward takes only {_lengths(value)} for input "{name}"; its first axis must be '
                    "the batch, of any length, which the forward doesn't compute with"
                )
            self._add(name, ops.Input(value.size[1:], dtype=kept_type(value.dtype)), ())
            self.written[id(value)] = name

    def _claim(self, name: str) -> str:
        """`name`, or the first of name_2, name_3, … that is free."""
        free, number = name, 2
        while free in self.taken:
            free, number = f"{name}_{number}", number + 1
        self.taken.add(free)
        return free

    # -- reading ---------------------------------------------------------------------------------------

    def build(self) -> Network:
        """The network of everything that is returned."""
        readings = self._readings()
        names = self._named(readings)
        for reading in readings:
            self._emit(reading, names.get(id(reading)))
        return self._finish()

    def _readings(self) -> list[_Reading]:
        """What each call comes to; parameters that operators read as well are no nodes of their own."""
        while True:
            made, self.outputs = batch_first(self.calls, self.program.outputs, self._liftable)
            readings, torn = self._settle(self._live(_tied([self._read(call) for call in made])))
            unread = lifted_buffers(made) - lifted_buffers(reading.call for reading in readings)
            if not torn | unread:
                return self._live(readings)
            self.bare |= torn | unread

    def _liftable(self, value: Value) -> str:
        floats = value.dtype is not None and value.dtype.is_floating_point
        if not floats or min(value.sizes, default=0) < 1 or value.key in self.bare:
            return ""
        return self.source.kinds.get(value.key, "constant")

    def buffers(self) -> dict[str, str]:
        """The nodes of buffers and constants that may have a width, by key."""
        return {
            self.tensors[node.owner, "weight"]: name
            for name, node in self.nodes.items()
            if isinstance(node.op, ops.Parameter) and node.op.source != "parameter"
        }

    def _read(self, call: Call, known: bool = True) -> _Reading:
        try:
            if call.target == UNIT:
                return self._as_layer(
                    call, read_unit(call, self.source.module.get_submodule(call.frame.path))
                )
            if known and call.name in CALLS:
                try:
                    return self._as_layer(call, CALLS[call.name](call))
                except (Refused, GraphError, TypeError, ValueError, LookupError):
                    pass
            return _Reading(call, read_aten(call, self.source.dtype), None)
        except Refused as error:
            raise Misplaced(call.name, call.scope, error) from None

    def _as_layer(self, call: Call, made: Made) -> _Reading:
        """A reading that fits; Refused where the tensors are not those of one module in the names of the op."""
        if not made.ops:
            return _Reading(call, made, None)
        shapes = tuple(value.shape for value in made.reads)
        made.ops[0].shape(shapes)
        params = made.ops[0].params(shapes)
        if not made.tensors:
            if params and set(params) != {COUNT}:
                raise Refused("it lacks its tensors")
            return _Reading(call, made, None)
        keys = {name: value.key for name, value in made.tensors.items()}
        path = next(iter(keys.values())).rpartition(".")[0]
        prelu = set(keys) == {"a"} and keys["a"] == f"{path}.weight"
        held = bool(path) and (prelu or all(key == f"{path}.{name}" for name, key in keys.items()))
        if not held and (called(made.ops[0], shapes) is None or set(params) != set(keys)):
            raise Refused("its tensors are not those of one layer")
        for name, param in params.items():
            key = f"{path}.weight" if prelu else keys.get(name, f"{path}.{name}")
            tensor = self.source.tensors.get(key)
            if tensor is None or not (
                tuple(tensor.shape) == param.shape or (param.shape == () and tensor.numel() == 1)
            ):
                raise Refused(f"its {name} has another shape")
        if held:
            return _Reading(call, made, path, path)
        apart = home(keys.values()) if isinstance(made.ops[0], ops.NormedLayer) else ""
        return _Reading(call, made, apart or _start([*keys.values()]), tuple(keys.values()))

    def _settle(self, readings: list[_Reading]) -> tuple[list[_Reading], set[str]]:
        """Read as operators the calls whose parameters something else uses as well, in another way; and the parameters
        that can't be nodes of their own for that reason."""
        while True:
            users: dict[str, set[Any]] = {}
            for reading in readings:
                inside = {id(value) for value in reading.made.tensors.values()}
                for value in (*reading.made.tensors.values(), *reading.made.reads):
                    if value.key:
                        identity = _identity(reading, value) if id(value) in inside else None
                        users.setdefault(value.key, set()).add(identity)
            torn = {key for key, found in users.items() if len(found) > 1}
            again = [
                number for number, reading in enumerate(readings)
                if reading.path is not None and any(v.key in torn for v in reading.made.tensors.values())
            ]  # fmt: skip
            lifted = [readings[number] for number in again if readings[number].call.target == LEARNED]
            if lifted or not again:
                return readings, {reading.call.args["held"].key for reading in lifted}
            for number in again:
                if readings[number].call.target == UNIT:
                    call = readings[number].call
                    error = Refused("it shares a tensor with another layer; call one module twice instead")
                    raise Misplaced(call.name, call.scope, error)
                readings[number] = self._read(readings[number].call, known=False)

    def _live(self, readings: list[_Reading]) -> list[_Reading]:
        """Without calls that their readers took in, such as the padding of a convolution."""
        wanted, kept = {id(value) for value in self.outputs}, list[_Reading]()
        for reading in reversed(readings):
            if id(reading.call.out) in wanted:
                kept.append(reading)
                wanted.update(id(value) for value in reading.made.reads)
        return kept[::-1]

    # -- names -----------------------------------------------------------------------------------------

    def _named(self, readings: list[_Reading]) -> dict[int, str]:
        """The names of readings that are modules by themselves, claimed before those of functions."""
        items = {id(reading): name for reading in readings if (name := self._item(reading.call)) is not None}
        self.taken.update(items.values())
        making = [reading for reading in readings if reading.made.ops and id(reading) not in items]
        counts: dict[Frame, int] = {}
        for reading in making:
            counts[reading.call.frame] = counts.get(reading.call.frame, 0) + 1
        paths: dict[int, str] = {}
        for reading in making:
            frame = reading.call.frame
            layer = frame.path and frame.cls.startswith(("torch.nn.modules.", OWN)) and counts[frame] == 1
            if reading.path is not None or layer:
                paths[id(reading)] = reading.path if reading.path is not None else frame.path
        first = {path: self._claim(node_name(path)) for path in dict.fromkeys(paths.values())
                 if path not in self._remembered()}  # fmt: skip
        for names in self._remembered().values():
            self.taken.update(names)
        found: dict[int, str] = {**items}
        for reading in making:
            path = paths.get(id(reading))
            if path is None:
                continue
            known = self._remembered().get(path)
            call = reading.call.frame.call
            if known is not None and call < len(known) and reading.call.frame.path == path:
                found[id(reading)] = known[call]
            elif path in first:
                found[id(reading)] = first.pop(path)
            else:
                found[id(reading)] = self._claim(node_name(path))
        return found

    def _item(self, call: Call) -> str | None:
        """The name of the node that picks one of several results, which leaves no trace in an exported copy."""
        made = call.args["self"].call if call.target == "getitem" else None
        return (
            None
            if made is None
            else self.names.get("items", {}).get(f"{made.frame.path} {call.args['index']}")
        )

    def _remembered(self) -> Mapping[str, list[str]]:
        return self.names.get("calls", {})

    # -- building --------------------------------------------------------------------------------------

    def _emit(self, reading: _Reading, name: str | None) -> None:
        call, made = reading.call, reading.made
        reads = tuple(self._node(value) for value in made.reads)
        scope = call.frame.path
        for number, op in enumerate(made.ops):
            stem = made.stem if made.stem and number == 0 else op.phi or op.kind
            if number or name is None:
                name = self._claim(f"{node_name(scope)}.{legal_name(stem)}" if scope else legal_name(stem))
            owner = name
            if number == 0 and reading.path is not None:
                borrowed = op.kind == "unembedding"
                owner = self.owners.setdefault(reading.place if borrowed else (reading.place, op), name)
                if owner == name:
                    self.homes[owner] = node_name(reading.path)
                    self._hold(name, op, made, reading.path)
            self._add(name, op, reads, owner)
            reads = (name,)
        self.written[id(call.out)] = reads[0]

    def _hold(self, name: str, op: ops.Op, made: Made, path: str) -> None:
        for param in op.params(tuple(value.shape for value in made.reads)):
            given = made.tensors.get(param)
            self.tensors[name, param] = given.key if given is not None else f"{path}.{param}"

    def _node(self, value: Value) -> str:
        """The node that makes `value`."""
        if not value.key:
            return self.written[id(value)]
        if value.key not in self.held:
            name = self._claim(node_name(value.key))
            kind = self.source.kinds.get(value.key, "constant")
            dtype = value.dtype
            assert dtype is not None
            own = "float" if dtype.is_floating_point else str(dtype).removeprefix("torch.")
            self._add(name, ops.Held(value.size or (), kind, own), ())  # pyright: ignore[reportArgumentType]
            self.tensors[name, "value"] = value.key
            self.held[value.key] = name
        return self.held[value.key]

    def _add(self, name: str, op: ops.Op, reads: tuple[str, ...], owner: str = "") -> None:
        self.shapes[name] = op.shape(tuple(self.shapes[source] for source in reads))
        self.nodes[name] = Node(name, op, reads, owner)

    def _finish(self) -> Network:
        outputs = [self._node(value) for value in self.outputs]
        if not outputs:
            raise UnsupportedModule("from_torch: the module returns no tensor; let it return one")
        form = self.program.form
        op = ops.Output() if form == 0 else ops.Outputs(canonical_json(form))
        self._add(self.output, op, tuple(outputs))
        live = leading_to(self.output, self.nodes)
        for name, made in self.nodes.items():
            if isinstance(made.op, ops.Input) and name not in live:
                raise UnsupportedModule(
                    f'from_torch: the output does not depend on input "{name}"; leave it out'
                )
        nodes = {name: node for name, node in self.nodes.items() if name in live}
        return self._network(self._reowned(nodes))

    def _reowned(self, nodes: dict[str, Node]) -> dict[str, Node]:
        """Owned by the use that is called as the module is, or else by the first that is left."""
        first: dict[str, str] = {}
        for name, node in nodes.items():
            home = nodes.get(self.homes.get(node.owner, ""))
            if home is not None and home.owner == node.owner and home.op == self.nodes[node.owner].op:
                first[node.owner] = home.name
            else:
                first.setdefault(node.owner, node.owner if node.owner in nodes else name)
        for old, new in first.items():
            if old != new:
                self.tensors.update(
                    {(new, p): key for (owner, p), key in [*self.tensors.items()] if owner == old}
                )
        return {name: replace(node, owner=first[node.owner]) for name, node in nodes.items()}

    def _network(self, nodes: dict[str, Node]) -> Network:
        graph = with_roles(ArchGraph(nodes.values()))
        weights: dict[Key, torch.Tensor] = {}
        for (owner, name), param in graph.params.items():
            key = self.tensors[owner, name]
            found = self.source.tensors[key].detach().to("cpu", copy=True).contiguous()
            weights[owner, name] = found.reshape(param.shape) if param.shape == () else found
        places = {key: number for number, key in enumerate(self.source.order)}
        ordered = sorted(weights, key=lambda key: places.get(self.tensors[key], len(places)))
        return Network(graph, weights, {key: self.tensors[key] for key in ordered})


def _start(keys: list[str]) -> str:
    """What all keys begin with; the first of them where that is nothing."""
    least, most = min(keys), max(keys)
    same = next(
        (place for place, letter in enumerate(least) if letter != most[place : place + 1]), len(least)
    )
    return least[:same].rstrip("._") or keys[0]


def _tied(readings: list[_Reading]) -> list[_Reading]:
    """With linear layers by the weight of an embedding before them as what they are."""
    tables = {
        reading.made.tensors["weight"].key: (reading.place, reading.made.ops[0])
        for reading in readings
        if reading.made.ops and reading.made.ops[0].kind == "embedding"
    }
    found: list[_Reading] = []
    for reading in readings:
        op = reading.made.ops[0] if reading.made.ops else None
        if isinstance(op, ops.Linear) and not op.bias and reading.made.tensors["weight"].key in tables:
            made = replace(reading.made, ops=(ops.Unembedding(op.features), *reading.made.ops[1:]))
            place = tables[reading.made.tensors["weight"].key]
            reading = replace(reading, made=made, place=place)
        found.append(reading)
    return found


def _identity(reading: _Reading, value: Value) -> Any:
    """The layer that has `value` for its parameter."""
    op = reading.made.ops[0]
    if op.kind == "unembedding":
        return reading.place
    return None if reading.path is None else (reading.place, op)


def _lengths(value: Value) -> str:
    sizes = value.size or ()
    return f"({', '.join('B' if n == -1 else str(n) for n in sizes)})"
