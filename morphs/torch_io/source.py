"""A network as source code that needs torch alone, with the state_dict of `to_torch()`.

It is made from the module that `to_torch` builds: one line for each layer, one for each call. B batch.
"""

import inspect
import json
from collections.abc import Sequence
from itertools import chain, count
from math import isfinite
from typing import Any, cast

from torch import nn

from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key, Node
from morphs.torch_io.layers import Function, Layer, held_apart, layer, method
from morphs.torch_io.names import module_path

READER = '''
def load(weights: str | Path = Path(__file__).with_name("weights.safetensors")) -> Network:
    """Return the network with its weights, in evaluation mode, on the CPU."""
    network = Network()
    tensors = read_safetensors(weights)
    kept = network.state_dict()
    network.load_state_dict({key: tensors[key] for key in kept}, strict=True, assign=True)
    for key in tensors.keys() - kept.keys():
        put(network, key, tensors[key], keep=False)
    return network.eval()


DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file: header length (8 bytes, little-endian), header (JSON), data. Nothing is executed."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        held = bytearray(data[start + begin : start + end])
        tensors[name] = torch.frombuffer(held, dtype=dtype).reshape(shape) if held else torch.empty(shape, dtype=dtype)
    return tensors
'''

PUT = '''
def put(root: nn.Module, path: str, part: nn.Module | Tensor, keep: bool = True) -> None:
    """Hold `part` under a dotted path; `keep`: whether a buffer is in the state_dict."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    if isinstance(part, nn.Module):
        root.add_module(name, part)
    elif isinstance(part, nn.Parameter):
        root.register_parameter(name, part)
    else:
        root.register_buffer(name, part, persistent=keep)

'''


def model_source(graph: ArchGraph, keys: dict[Key, str]) -> str:
    """model.py of `graph`, whose tensors are under `keys`, in their order."""
    parts = [
        f'"""A network as plain PyTorch; it needs only torch. Load it with its weights by `load()`.\n\n'
        f'Graph {graph.fingerprint}\nB batch; comments give the shapes for one batch.\n"""\n\n'
        "from __future__ import annotations\n\nimport json\nfrom pathlib import Path\n\nimport torch\n"
        "from torch import Tensor, nn\n",
        PUT,
        *(f"\n\n{inspect.getsource(cls).rstrip()}\n" for cls in _own_classes(graph)),
        "\n\nclass Network(nn.Module):\n"
        f'    """{graph.totals.weights:,} parameters, {graph.totals.macs:,} multiply-adds for one example."""\n\n'
        "    def __init__(self) -> None:\n        super().__init__()\n",
        *(f"        {line}\n" for line in _parts(graph, keys)),
        "\n    def forward(self, " + ", ".join(_arguments(graph)) + "):\n",
        *(f"        {line}\n" for line in _Forward(graph, keys).lines()),
        "\n",
        READER,
    ]
    return "".join(parts)


def _made(graph: ArchGraph, node: Node) -> Layer | None:
    functional = isinstance(node.op, (ops.Aten, ops.Held))
    return None if functional else layer(node.op, graph.input_shapes(node.name))


def _own_classes(graph: ArchGraph) -> list[type[nn.Module]]:
    """The module classes in use that torch doesn't have, by name."""
    used = {made[0] for node in graph if (made := _made(graph, node)) is not None}
    return sorted((cls for cls in used if not _of_torch(cls)), key=lambda cls: cls.__name__)


def _of_torch(cls: type[nn.Module]) -> bool:
    return getattr(nn, cls.__name__, None) is cls


def layer_path(graph: ArchGraph, keys: dict[Key, str], node: Node) -> str:
    """Where the layer at `node` is held."""
    for name in graph.facts(node.owner).params:
        return keys[node.owner, name].rpartition(".")[0]
    return f"{module_path(node.name)}"


def _arguments(graph: ArchGraph) -> list[str]:
    return [f"{name}: Tensor" for name in _input_names(graph).values()]


def _input_names(graph: ArchGraph) -> dict[str, str]:
    return {node.name: f"input{number}" for number, node in enumerate(graph.inputs, 1)}


def _parts(graph: ArchGraph, keys: dict[Key, str]) -> list[str]:
    """One line for each layer and each tensor, in the order of their keys; what has no tensors comes last."""
    lines: list[str] = []
    done: set[str] = set()
    ordered = [
        *dict.fromkeys(owner for owner, _ in keys),
        *(node.name for node in graph if node.owner == node.name),
    ]
    for name in dict.fromkeys(ordered):
        node, made = graph[name], _made(graph, graph[name])
        if isinstance(node.op, ops.Held):
            empty = f"torch.empty({list(node.op.size)}, dtype={_dtype(node.op)})"
            trained = node.op.source == "parameter"
            held = f"nn.Parameter({empty})" if trained else empty
            keep = "" if trained else f", keep={node.op.source == 'buffer'}"
            lines.append(f'put(self, "{keys[name, "value"]}", {held}{keep})')
        elif node.owner == name and held_apart(graph, keys, node) is not None:
            for param, held in graph.facts(name).params.items():
                lines.append(
                    f'put(self, "{keys[name, param]}", nn.Parameter(torch.empty({list(held.shape)})))'
                )
        elif made is not None:
            path = layer_path(graph, keys, node)
            if keys.get((name, "a"), "").endswith(".weight"):
                made = nn.PReLU, {"num_parameters": made[1].get("channels", 1)}
            if path not in done:
                lines.append(f'put(self, "{path}", {_call(made)})')
                done.add(path)
    return lines


def _dtype(op: ops.Held) -> str:
    return "torch.float32" if op.dtype == "float" else f"torch.{op.dtype}"


def _call(made: Layer) -> str:
    """The constructor call, without arguments at the constructor's defaults."""
    cls, given = made
    signature = inspect.signature(cls)
    arguments: list[str] = []
    for key, value in given.items():
        default = signature.parameters[key].default
        if value == default and type(value) is type(default):
            continue
        nested = isinstance(value, tuple) and isinstance(cast(tuple[Any, ...], value)[0], type)
        arguments.append(f"{key}={_call(cast(Layer, value)) if nested else literal(value)}")
    return f"{f'nn.{cls.__name__}' if _of_torch(cls) else cls.__name__}({', '.join(arguments)})"


class _Forward:
    """The lines of the forward: one assignment for each node, variables used again once nobody reads them."""

    def __init__(self, graph: ArchGraph, keys: dict[Key, str]) -> None:
        self.graph, self.keys = graph, keys
        self.inputs = _input_names(graph)
        self.names = _variables(graph, self.inputs)

    def lines(self) -> list[str]:
        """In canonical order."""
        first = next(iter(self.inputs.values()))
        texts = [node.op.args + node.op.kwargs for node in self.graph if isinstance(node.op, ops.Aten)]
        lines = [f"batch = {first}.size(0)"] if any('"batch"' in text for text in texts) else []
        for node in self.graph:
            read = [self.names[source] for source in node.inputs]
            if isinstance(node.op, ops.Input):
                lines.append(f"# {self.names[node.name]}: {self._shape(node)}")
            elif isinstance(node.op, ops.Output):
                lines.append(f"return {read[0]}")
            elif isinstance(node.op, ops.Outputs):
                lines.append(f"return {_returned(json.loads(node.op.form), read)}")
            else:
                lines.append(f"{self.names[node.name]} = {self._value(node, read)}  # {self._shape(node)}")
        return lines

    def _shape(self, node: Node) -> str:
        shape = self.graph.shape(node.name)
        size = ["B", *map(str, shape)] if shape else [_axis(n) for n in getattr(node.op, "size", ())]
        return f"[{', '.join(size)}]"

    def _value(self, node: Node, read: list[str]) -> str:
        match node.op:
            case ops.Add():
                return " + ".join(read)
            case ops.Multiply():
                return " * ".join(read)
            case ops.Concat():
                axis = node.op.axis if node.op.axis < 0 else node.op.axis + 1
                return f"torch.cat([{', '.join(read)}], dim={axis})"
            case ops.Held():
                return _attribute(self.keys[node.owner, "value"])
            case ops.Aten():
                return operator_code(node.op, read, next(iter(self.inputs.values())))
            case _:
                function = held_apart(self.graph, self.keys, node)
                if function is not None:
                    return self._call(node, function, read)
                called = method(node.op)
                if called is not None:
                    return f"{read[0]}.{called[0]}({', '.join(map(literal, called[1]))})"
                return f"{_attribute(layer_path(self.graph, self.keys, node))}({', '.join(read)})"

    def _call(self, node: Node, function: Function, read: list[str]) -> str:
        """A function on tensors that no layer of torch holds."""
        held = [_attribute(self.keys[node.owner, name]) for name in function.tensors]
        if isinstance(node.op, ops.Parameter):  # of as many examples as the first input has
            first = next(iter(self.inputs.values()))
            return f"{held[0]}.expand({first}.size(0), {', '.join(map(str, node.op.size))})"
        named = [f"{key}={literal(value)}" for key, value in function.named]
        given = [*read, *map(literal, function.given), *held, *named]
        return f"nn.functional.{function.name}({', '.join(given)})"


def _axis(size: int) -> str:
    return "B" if size == -1 else f"{-size}B" if size < 0 else str(size)


def _variables(graph: ArchGraph, inputs: dict[str, str]) -> dict[str, str]:
    last = {source: node.name for node in graph for source in node.inputs}
    names: dict[str, str] = dict(inputs)
    free: list[str] = []
    fresh = chain("xyz", (f"x{number}" for number in count(4)))
    for node in graph:
        unused = [names[s] for s in dict.fromkeys(node.inputs) if last[s] == node.name and s not in inputs]
        if node.name not in names:
            names[node.name] = unused[0] if unused else free.pop(0) if free else next(fresh)
        free.extend(name for name in unused if name != names[node.name])
    return names


def _attribute(path: str) -> str:
    text = "self"
    for part in path.split("."):
        text = f"{text}.{part}" if part.isidentifier() else f'getattr({text}, "{part}")'
    return text


def _returned(form: Any, read: Sequence[str]) -> str:
    if type(form) is int:
        return read[form]
    if not isinstance(form, dict):
        return repr(form)
    ((kind, held),) = cast(dict[str, Any], form).items()
    match kind:
        case "dict":
            return "{" + ", ".join(f"{key!r}: {_returned(item, read)}" for key, item in held) + "}"
        case "list":
            return f"[{', '.join(_returned(item, read) for item in held)}]"
        case "tuple":
            return f"({''.join(_returned(item, read) + ', ' for item in held)})"
        case _:
            return repr(held)


def operator_code(op: ops.Aten, read: Sequence[str], first: str) -> str:
    """The call of an operator. first: the network's first input."""
    args, kwargs = json.loads(op.args), json.loads(op.kwargs)
    if op.operator == "getitem":
        return f"{read[0]}[{args[1]}]"
    own = f"next(self.parameters(), {first})"
    given = [_argument(value, read, own) for value in args]
    named = [f"{key}={_argument(value, read, own)}" for key, value in kwargs.items()]
    return f"torch.ops.{op.operator}({', '.join([*given, *named])})"


def _argument(value: Any, read: Sequence[str], own: str) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_argument(item, read, own) for item in cast(list[Any], value))}]"
    if not isinstance(value, dict):
        return literal(value)
    known = cast(dict[str, Any], value)
    if "tensor" in known:
        return str(read[known["tensor"]])
    if "batch" in known:
        times, more = known["batch"]
        return (f"{times} * batch" if times != 1 else "batch") + (f" + {more}" if more else "")
    if "dtype" in known:
        return f"{own}.dtype" if known["dtype"] == "own" else f"torch.{known['dtype']}"
    if "device" in known:
        return f"{own}.device"
    if "memory_format" in known:
        return f"torch.{known['memory_format']}"
    if "float" in known:
        return f'float("{known["float"]}")'
    train, evaluated = _argument(known["train"], read, own), _argument(known["eval"], read, own)
    return f"({train} if self.training else {evaluated})"


def literal(value: Any) -> str:
    """A Python literal."""
    if isinstance(value, float) and not isfinite(value):
        return f'float("{value}")'
    return repr(value)
