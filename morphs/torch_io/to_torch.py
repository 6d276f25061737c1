"""Network → nn.Module, and back after training."""

import json
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule
from torch.fx import Node as FxNode

from morphs.errors import WeightsError
from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key, Node
from morphs.torch_io.apart import held_apart, row_weight
from morphs.torch_io.aten_call import AtenCall
from morphs.torch_io.keys import Keys, reorder, state_keys
from morphs.torch_io.layers import Join, Layer, Method, Product, Sum, build_layer, layer, method
from morphs.torch_io.names import argument_names
from morphs.torch_io.names import module_path as module_path  # for those who look for it here

NAMES = "morphs"  # under which a module's `meta` holds the names that its code doesn't show


class Copy(GraphModule):
    """A GraphModule whose parameters keep their order when it is copied or pickled."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphModule:
        copy = super().__deepcopy__(memo)
        reorder(copy, self.state_dict(keep_vars=True))
        return copy

    def __reduce__(self) -> Any:
        return _restored, (super().__reduce__(), [*self.state_dict(keep_vars=True)])


def _restored(made: tuple[Any, tuple[Any, ...]], order: list[str]) -> nn.Module:
    function, given = made
    module = function(*given)
    reorder(module, order)
    return module


def to_torch(graph: ArchGraph, weights: Mapping[Key, Tensor], keys: Keys, shared: bool = False) -> nn.Module:
    """A torch.fx.GraphModule (an ordinary nn.Module) that computes `graph`, on copies of `weights`.

    keys: where tensors are in the module's state, and in which order. shared: use the parameters as they are, for a
    module that is run without training and then dropped; buffers are copied all the same. It reads one tensor for
    each Input node, in canonical order, under the name of the argument that it was. torch.compile and torch.export
    accept it. All its parameters require gradients: a Network doesn't know which were frozen, so set
    requires_grad=False again on those.
    """
    made = _Maker(graph, state_keys(graph, keys))
    module = Copy(made.modules, made.trace, class_name="MorphedNetwork")
    state: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        path = made.keys[key]
        owner, _, name = path.rpartition(".")
        held = module.get_submodule(owner)
        lent = shared and graph.params[key].trainable and not tensor.is_inference()
        copy = tensor.contiguous() if lent else tensor.clone(memory_format=torch.contiguous_format)
        op = graph[key[0]].op
        if isinstance(op, ops.Held | ops.Parameter) and op.source != "parameter":
            held.register_buffer(name, copy, persistent=op.source == "buffer")
        state[path] = copy.reshape(-1) if isinstance(held, nn.PReLU) else copy
    kept = {path: state[path] for path in module.state_dict()}
    module.load_state_dict(kept, strict=True, assign=True)
    floats = {key: tensor.dtype for key, tensor in weights.items() if tensor.is_floating_point()}
    trained = (kind for key, kind in floats.items() if graph.params[key].trainable)
    own = next(trained, next(iter(floats.values()), None))  # that of a constant may be another
    for part in module.modules():
        if isinstance(part, AtenCall):
            part.own = torch.empty(0, dtype=own)
    module.meta[NAMES] = made.names()
    if keys:
        reorder(module, made.keys.values())
    return module.train()


class _Maker:
    """Goes through a graph, in canonical order, and makes the modules and the code."""

    def __init__(self, graph: ArchGraph, keys: dict[Key, str]) -> None:
        self.graph, self.keys = graph, keys
        self.modules: dict[str, Any] = {}
        self.trace = Graph()
        self.values: dict[str, FxNode] = {}
        self.used: dict[str, str] = {}  # path → owner
        self.calls: dict[str, list[str]] = {}
        self.items: dict[str, str] = {}  # path of the module that makes several results, and the place → node
        self.size: FxNode | None = None
        for (owner, _), key in keys.items():
            self.used.setdefault(key.rpartition(".")[0], owner)
        inputs = [node.name for node in graph.inputs]
        for name, argument in zip(inputs, argument_names(inputs), strict=True):  # first in an fx graph
            self.values[name] = self.trace.placeholder(argument)
        for node in graph:
            if node.name not in self.values:
                self.values[node.name] = self._emit(node, [self.values[i] for i in node.inputs])

    def names(self) -> dict[str, Any]:
        """What the code doesn't show: the names of inputs and output, and of the nodes that call each module."""
        inputs = [node.name for node in self.graph.inputs]
        return {"inputs": inputs, "output": self.graph.output.name, "calls": self.calls, "items": self.items}

    def _emit(self, node: Node, read: list[FxNode]) -> FxNode:
        op = node.op
        match op:
            case ops.Output():
                return self.trace.output(read[0])
            case ops.Outputs():
                return self.trace.output(_formed(json.loads(op.form), read))
            case ops.Held():
                return self._tensor(node, op)
            case ops.Add():
                return self._call(node, (Sum, {}), read)
            case ops.Multiply():
                return self._call(node, (Product, {}), read)
            case ops.Concat():
                return self._call(node, (Join, {"axis": op.axis if op.axis < 0 else op.axis + 1}), read)
            case _:
                return self._function(node, read) or self._call(node, self._layer(node), read)

    def _layer(self, node: Node) -> Layer:
        made, called = layer(node.op, self.graph.input_shapes(node.name)), method(node.op)
        if made is not None:
            return self._as_read(node, made)
        if called is not None:
            return Method, {"name": called[0], "arguments": called[1]}
        raise NotImplementedError(f"to_torch: {node.op.kind} has no module")

    def _function(self, node: Node, read: list[FxNode]) -> FxNode | None:
        """The call of a function on tensors that no layer of torch holds; None where one does."""
        function = held_apart(self.graph, self.keys, node)
        if function is None:
            return None
        held = [self._parameter(node, name) for name in function.tensors]
        if isinstance(node.op, ops.NormedLayer):
            known = dict(zip(function.tensors, held, strict=True))
            held = [row_weight(node.op, known, self.trace), *([known["bias"]] if node.op.bias else [])]
        if isinstance(node.op, ops.Parameter):  # of as many examples as the first input has
            return self.trace.call_method(function.name, (*held, self._batch(), *node.op.size))
        args = (*read, *function.given, *held)
        return self.trace.call_function(getattr(nn.functional, function.name), args, dict(function.named))

    def _parameter(self, node: Node, name: str) -> FxNode:
        key, owner = self.keys[node.owner, name], self.graph[node.owner]
        path = key.rpartition(".")[0]
        if held_apart(self.graph, self.keys, owner) is None:
            if path not in self.modules:
                with torch.device("meta"):
                    self.modules[path] = build_layer(self._layer(owner))
            self.modules[key] = getattr(self.modules[path], name)
        elif key not in self.modules:
            param = self.graph.params[node.owner, name]
            empty = torch.empty(param.shape, device="meta")
            self.modules[key] = nn.Parameter(empty) if param.trainable else empty
        return self.trace.get_attr(key)

    def _batch(self) -> FxNode:
        """How many examples there are."""
        self.size = self.size or self.trace.call_method("size", (self.values[self.graph.inputs[0].name], 0))
        return self.size

    def _tensor(self, node: Node, op: ops.Held) -> FxNode:
        key = self.keys[node.owner, "value"]
        if key not in self.modules:
            empty = torch.empty(op.size, device="meta")
            self.modules[key] = nn.Parameter(empty) if op.source == "parameter" else empty
        return self.trace.get_attr(key)

    def _as_read(self, node: Node, made: Layer) -> Layer:
        """A PReLU where the parameter is that of one."""
        key = self.keys.get((node.owner, "a"), "")
        if node.op.kind != "p_activation" or key.rpartition(".")[2] != "weight":
            return made
        return nn.PReLU, {"num_parameters": made[1].get("channels", 1)}

    def _call(self, node: Node, made: Layer, read: list[FxNode]) -> FxNode:
        path = self._path(node)
        if path not in self.modules:
            with torch.device("meta"):  # the weights are assigned afterwards
                self.modules[path] = build_layer(made)
        self.calls.setdefault(path, []).append(node.name)
        if isinstance(node.op, ops.Aten) and node.op.operator == "getitem":
            several, index = self.values[node.inputs[0]], json.loads(node.op.args)[1]
            self.items[f"{several.target} {index}"] = node.name
        called = self.trace.call_module(path, tuple(read), self._extras(node))
        if isinstance(node.op, ops.Recurrent):  # of a layer of torch, which returns its last state as well
            return self.trace.call_function(operator.getitem, (called, 0))
        return called

    def _path(self, node: Node) -> str:
        for name in self.graph.facts(node.owner).params:
            return self.keys[node.owner, name].rpartition(".")[0]
        path = module_path(node.name)
        while self.used.setdefault(path, node.name) != node.name:
            path += "_"
        return path

    def _extras(self, node: Node) -> dict[str, Any]:
        """What an operator must be told besides its tensors."""
        if not isinstance(node.op, ops.Aten):
            return {}
        return {"batch": self._batch()} if '"batch"' in node.op.args + node.op.kwargs else {}


def _formed(form: Any, read: list[FxNode]) -> Any:
    if type(form) is int:
        return read[form]
    if not isinstance(form, dict):
        return form
    ((kind, held),) = form.items()
    match kind:
        case "dict":
            return {key: _formed(item, read) for key, item in held}
        case "list":
            return [_formed(item, read) for item in held]
        case "tuple":
            return tuple(_formed(item, read) for item in held)
        case _:
            return held


def weights_from(graph: ArchGraph, module: nn.Module, keys: Keys) -> dict[Key, Tensor]:
    """Copies of the parameters and buffers of `module`, keyed as a Network of `graph` needs them, on the CPU."""
    every = {**dict(module.named_buffers()), **module.state_dict()}
    state = {key.removeprefix("_orig_mod."): value for key, value in every.items()}
    weights: dict[Key, Tensor] = {}
    places = state_keys(graph, keys)
    for (owner, name), param in graph.params.items():
        path = places[owner, name]
        if path not in state:
            raise WeightsError(
                f'network: node "{owner}": the module has no tensor {path}; give a module of this graph'
            )
        tensor = state[path].detach().to("cpu", copy=True).contiguous()
        scalar = tensor.numel() == 1 and param.shape == ()
        weights[owner, name] = tensor.reshape(()) if scalar else tensor
    return weights
