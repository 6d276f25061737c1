"""A network as source code that needs torch alone, with the state_dict of `to_torch()`.

It is made from the module that `to_torch` builds: one line for each layer, one for each call. B batch.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, cast

from torch import nn

from morphs.graph import ops
from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key, Node
from morphs.torch_io import source_text as text
from morphs.torch_io.apart import Function, held_apart, row_weight_code
from morphs.torch_io.layers import Layer, layer, method
from morphs.torch_io.names import argument_names, module_path
from morphs.torch_io.source_text import attribute, broken, commented, literal

POSITIONAL = frozenset(
    {
        "in_channels", "out_channels", "in_features", "out_features", "num_features", "phi", "normalized_shape",
        "num_embeddings", "embedding_dim", "num_groups", "num_channels", "size",
    }
)  # fmt: skip


@dataclass(frozen=True)
class More:
    """What a model.py holds besides the network.

    about: the start of its docstring. imports: lines. constants: code before the classes. forward: the docstring of the
    forward. functions: code after `load`, which may call it. last: code at the end of the file.
    """

    about: str = "A network as plain PyTorch; it needs only torch. Load it with its weights by `load()`.\n"
    imports: tuple[str, ...] = ()
    constants: str = ""
    forward: str = ""
    functions: str = ""
    last: str = ""


def model_source(graph: ArchGraph, keys: Mapping[Key, str], more: More | None = None) -> str:
    """model.py of `graph`, whose tensors are under `keys`, in their order."""
    more = More() if more is None else more
    held = [node.op for node in graph if isinstance(node.op, ops.Held | ops.Parameter)]
    constants = any(op.source == "constant" for op in held)
    body, code = _parts(graph, keys), _Forward(graph, keys, more.forward).lines()
    puts = constants or any(line.startswith("put(") for line in body)
    imports = {"import json", "from math import prod", "from pathlib import Path", *more.imports}
    imports |= {"from typing import Any"} if graph.output.op.kind == "outputs" else set()
    doc = f'"""{more.about}\nGraph {graph.fingerprint}\nB batch; comments give the shapes for one batch.\n"""'
    weights = 'WEIGHTS = Path(__file__).with_name("weights.safetensors")'
    blocks = [
        *(inspect.getsource(cls) for cls in _own_classes(graph)),
        f"class Network(nn.Module):\n{_lines(_head(graph), 4)}\n\n{_lines(['def __init__(self) -> None:'], 4)}\n"
        f"{_lines(['super().__init__()', *body], 8)}\n\n{_lines(code, 4)}",
        text.LOAD.format(text.CONSTANTS if constants else ""),
        more.functions,
        text.PUT if puts else "",
        text.READER,
        more.last,
    ]
    head = [
        doc,
        "from __future__ import annotations",
        "\n".join(sorted(imports, key=lambda line: (line.startswith("from"), line.lower()))),
        "import torch\nfrom torch import Tensor, nn",
        "\n".join([*([more.constants] if more.constants else []), weights]),
    ]
    return "\n\n".join(head) + "".join(f"\n\n\n{block.strip()}" for block in blocks if block.strip()) + "\n"


def _lines(lines: Sequence[str], indent: int) -> str:
    return "\n".join(" " * indent + line if line else "" for line in lines)


def _head(graph: ArchGraph) -> list[str]:
    totals = graph.totals
    return [f'"""{totals.weights:,} parameters, {totals.macs:,} multiply-adds for one example."""']


def _made(graph: ArchGraph, node: Node) -> Layer | None:
    functional = isinstance(node.op, (ops.Aten, ops.Held))
    return None if functional else layer(node.op, graph.input_shapes(node.name))


def _own_classes(graph: ArchGraph) -> list[type[nn.Module]]:
    """The module classes in use that torch doesn't have, by name."""
    used = {made[0] for node in graph if (made := _made(graph, node)) is not None}
    return sorted((cls for cls in used if not _of_torch(cls)), key=lambda cls: cls.__name__)


def _of_torch(cls: type[nn.Module]) -> bool:
    return getattr(nn, cls.__name__, None) is cls


# -- what the network holds ----------------------------------------------------------------------------


def layer_paths(graph: ArchGraph, keys: Mapping[Key, str]) -> dict[str, str]:
    """Where the layer of each owner is held, in the order of the tensors; layers without any follow in the graph's."""
    return {owner: path for path, (owner, name) in _places(graph, keys).items() if not name}


def _places(graph: ArchGraph, keys: Mapping[Key, str]) -> dict[str, Key]:
    """What is under each path: the layer of an owner, then without a name, or a tensor that no layer holds."""
    found: dict[str, Key] = {}
    ranks: dict[str, tuple[int, int]] = {}
    for (owner, name), key in keys.items():
        node = graph[owner]
        apart = isinstance(node.op, ops.Held) or held_apart(graph, keys, node) is not None
        path = key if apart else key.rpartition(".")[0]
        found[path] = owner, name if apart else ""
        ranks.setdefault(path, (len(ranks), 0))
    paths = {owner: path for path, (owner, _) in found.items()}
    last = -1
    for number, owner in enumerate(dict.fromkeys(node.owner for node in graph)):
        if owner not in paths and _made(graph, graph[owner]) is not None:
            path = module_path(owner)
            while path in found:
                path += "_"
            found[path], ranks[path] = (owner, ""), (last, number)
        last = ranks[paths[owner]][0] if owner in paths else last
    return dict(sorted(found.items(), key=lambda pair: ranks[pair[0]]))


def _parts(graph: ArchGraph, keys: Mapping[Key, str]) -> list[str]:
    """One line for each layer and each tensor; what holds others before those."""
    places = _places(graph, keys)
    lines: list[str] = []
    done: set[str] = set()
    for path in places:
        parts = path.split(".")
        for prefix in (".".join(parts[:size]) for size in range(1, len(parts) + 1)):
            if prefix in places and prefix not in done:
                done.add(prefix)
                owner, name = places[prefix]
                node = graph[owner]
                lines += _tensor(graph, node, name, prefix) if name else _part(graph, keys, node, prefix)
    return lines


def _tensor(graph: ArchGraph, node: Node, name: str, path: str) -> list[str]:
    dtype, source = "", "parameter"
    if isinstance(node.op, ops.Held):
        dtype = ", dtype=torch.float32" if node.op.dtype == "float" else f", dtype=torch.{node.op.dtype}"
    if isinstance(node.op, ops.Held | ops.Parameter):
        source = node.op.source
    empty = f"torch.empty({list(graph.params[node.name, name].shape)}{dtype})"
    if source == "parameter":
        held = f"nn.Parameter({empty})"
        return [f"self.{path} = {held}" if text.is_plain(path) else f'put(self, "{path}", {held})']
    return [f'put(self, "{path}", {empty}{"" if source == "buffer" else ", keep=False"})']


def _part(graph: ArchGraph, keys: Mapping[Key, str], node: Node, path: str) -> list[str]:
    made = _made(graph, node)
    assert made is not None
    if node.op.kind == "p_activation" and keys.get((node.name, "a"), "").endswith(".weight"):
        made = nn.PReLU, {"num_parameters": made[1].get("channels", 1)}
    head, arguments = _call(made)
    if text.is_plain(path):
        return broken(f"self.{path} = {head}(", arguments)
    whole = f"{head}({', '.join(arguments)})"
    return broken("put(", ["self", f'"{path}"', whole])


def _call(made: Layer) -> tuple[str, list[str]]:
    """The constructor and its arguments, without those at the constructor's defaults."""
    cls, given = made
    signature = inspect.signature(cls)
    arguments: list[str] = []
    for key, value in given.items():
        short = _shortened(value)
        known = signature.parameters.get(key)  # recurrent layers name none
        default = inspect.Parameter.empty if known is None else known.default
        if short == default and type(short) is type(default):
            continue
        if isinstance(short, tuple) and short and isinstance(cast(tuple[Any, ...], short)[0], type):
            head, inner = _call(cast(Layer, short))
            argument = f"{head}({', '.join(inner)})"
        else:
            argument = literal(short)
        arguments.append(argument if key in POSITIONAL else f"{key}={argument}")
    return (f"nn.{cls.__name__}" if _of_torch(cls) else cls.__name__), arguments


def _shortened(value: Any) -> Any:
    """(3, 3) as 3, which means the same to torch's layers."""
    if isinstance(value, tuple) and len(cast(tuple[Any, ...], value)) == 2 and value[0] == value[1]:
        return value[0]
    return value


# -- forward -------------------------------------------------------------------------------------------


def variable_names(graph: ArchGraph) -> dict[str, str]:
    """A local variable for each node's output, used again as soon as no later node reads it.

    A node overwrites the first input that it is the last to read, so a chain is `x = …` throughout and a branch
    gets another letter; memory is released as early as possible. Inputs have the names of the forward's arguments,
    which are overwritten only where they are such letters. Tensors that the network holds have none.
    """
    inputs = [node.name for node in graph.inputs]
    arguments = argument_names(inputs)
    read = {node.name: _sources(graph, node) for node in graph if node.name not in inputs and not _held(node)}
    last = {source: name for name, sources in read.items() for source in sources}
    variables = dict(zip(inputs, arguments, strict=True))
    free: list[str] = []
    fresh = (name for name in chain("xyz", (f"x{number}" for number in count(4))) if name not in arguments)
    kept = {name for name in arguments if name not in {*"xyz"}}
    for node, sources in read.items():
        unused = [variables[source] for source in dict.fromkeys(sources) if last[source] == node]
        unused = [name for name in dict.fromkeys(unused) if name not in kept]
        variable = unused[0] if unused else free.pop(0) if free else next(fresh)
        variables[node] = variable
        free.extend(name for name in unused if name != variable)
    return variables


def _held(node: Node) -> bool:
    return isinstance(node.op, ops.Held)


def _sources(graph: ArchGraph, node: Node) -> tuple[str, ...]:
    """The nodes whose variables it reads: what reads none is told the size of the batch by the first input."""
    first = (graph.inputs[0].name,)
    if isinstance(node.op, ops.Aten) and '"own"' in node.op.args + node.op.kwargs:
        return tuple(s for s in dict.fromkeys((*node.inputs, *first)) if not _held(graph[s]))
    return tuple(source for source in node.inputs or first if not _held(graph[source]))


class _Forward:
    """The lines of the forward: one assignment for each node."""

    def __init__(self, graph: ArchGraph, keys: Mapping[Key, str], about: str) -> None:
        self.graph, self.keys, self.about = graph, keys, about
        self.paths = layer_paths(graph, keys)
        variables = variable_names(graph)
        self.names = {
            node.name: attribute(keys[node.owner, "value"]) if _held(node) else variables[node.name]
            for node in graph
        }
        self.first = variables[graph.inputs[0].name]
        self.batch = "batch"  # how many examples there are
        while self.batch in variables.values():
            self.batch += "_"

    def lines(self) -> list[str]:
        """Signature and body, in canonical order, with a comment for the shape where it changes or paths join."""
        given = [f"{self.names[node.name]}: Tensor" for node in self.graph.inputs]
        returns = "Tensor" if self.graph.output.op.kind == "output" else "Any"
        lines = broken("def forward(", ["self", *given], f") -> {returns}:", 4)
        body = [f'"""{self.about}"""'] if self.about else []
        body += [f"# {self.names[node.name]}: {self._shape(node)}" for node in self.graph.inputs]
        texts = [node.op.args + node.op.kwargs for node in self.graph if isinstance(node.op, ops.Aten)]
        body += [f"{self.batch} = {self.first}.size(0)"] if any('"batch"' in args for args in texts) else []
        for node in self.graph:
            if not isinstance(node.op, ops.Input) and not _held(node):
                body += self._line(node, [self.names[source] for source in node.inputs])
        return [*lines, *(f"    {line}" for line in body)]

    def _line(self, node: Node, read: list[str]) -> list[str]:
        if isinstance(node.op, ops.Output):
            return [f"return {read[0]}"]
        if isinstance(node.op, ops.Outputs):
            return _returned(json.loads(node.op.form), read)
        target, comment = f"{self.names[node.name]} = ", f"  # {self._shape(node)}"
        head, arguments = self._value(node, read)
        code = broken(f"{target}{head}(", arguments) if arguments is not None else [f"{target}{head}"]
        layer = node.owner in self.paths
        same = bool(node.inputs) and self.graph.shape(node.name) == self.graph.shape(node.inputs[0])
        return commented(code, "" if same and layer else comment)

    def _shape(self, node: Node) -> str:
        shape = self.graph.shape(node.name)
        size = ["B", *map(str, shape)] if shape else [_axis(n) for n in getattr(node.op, "size", ())]
        return f"[{', '.join(size)}]"

    def _value(self, node: Node, read: list[str]) -> tuple[str, list[str] | None]:
        """What a node computes: a function and its arguments, or an expression."""
        match node.op:
            case ops.Add():
                return " + ".join(read), None
            case ops.Multiply():
                return " * ".join(read), None
            case ops.Concat():
                axis = node.op.axis if node.op.axis < 0 else node.op.axis + 1
                return "torch.cat", [f"[{', '.join(read)}]", f"dim={axis}"]
            case ops.Aten():
                return operator_code(node.op, read, self.first, self.batch)
            case _:
                if isinstance(node.op, ops.Recurrent):
                    return f"{attribute(self.paths[node.owner])}({', '.join(read)})[0]", None
                function = held_apart(self.graph, self.keys, node)
                if function is not None:
                    return self._call(node, function, read)
                called = method(node.op)
                if called is not None:
                    return f"{read[0]}.{called[0]}", [literal(value) for value in called[1]]
                return attribute(self.paths[node.owner]), read

    def _call(self, node: Node, function: Function, read: list[str]) -> tuple[str, list[str]]:
        """A function on tensors that no layer of torch holds."""
        held = [attribute(self.keys[node.owner, name]) for name in function.tensors]
        if isinstance(node.op, ops.NormedLayer):
            known = dict(zip(function.tensors, held, strict=True))
            held = [row_weight_code(node.op, known), *([known["bias"]] if node.op.bias else [])]
        if isinstance(node.op, ops.Parameter):  # of as many examples as the first input has
            return f"{held[0]}.{function.name}", [f"{self.first}.size(0)", *map(str, node.op.size)]
        named = [f"{key}={literal(value)}" for key, value in function.named]
        return f"nn.functional.{function.name}", [*read, *map(literal, function.given), *held, *named]


def _axis(size: int) -> str:
    return "B" if size == -1 else f"{-size}B" if size < 0 else str(size)


def _returned(form: Any, read: Sequence[str]) -> list[str]:
    if isinstance(form, dict):
        ((kind, held),) = cast(dict[str, Any], form).items()
        if kind == "dict" and held:
            return broken("return {", [f"{literal(key)}: {_form(item, read)}" for key, item in held], "}")
    return [f"return {_form(form, read)}"]


def _form(form: Any, read: Sequence[str]) -> str:
    if type(form) is int:
        return read[form]
    if not isinstance(form, dict):
        return literal(form)
    ((kind, held),) = cast(dict[str, Any], form).items()
    match kind:
        case "dict":
            return "{" + ", ".join(f"{literal(key)}: {_form(item, read)}" for key, item in held) + "}"
        case "list":
            return f"[{', '.join(_form(item, read) for item in held)}]"
        case "tuple":
            return f"({', '.join(_form(item, read) for item in held)}{',' if len(held) == 1 else ''})"
        case _:
            return literal(held)


def operator_code(op: ops.Aten, read: Sequence[str], first: str, batch: str) -> tuple[str, list[str] | None]:
    """The call of an operator. first: the network's first input. batch: the number of examples."""
    args, kwargs = json.loads(op.args), json.loads(op.kwargs)
    if op.operator == "getitem":
        return f"{read[0]}[{args[1]}]", None
    own = f"next(self.parameters(), {first})"
    given = [_argument(value, read, own, batch) for value in args]
    named = [f"{key}={_argument(value, read, own, batch)}" for key, value in kwargs.items()]
    return f"torch.ops.{op.operator}", [*given, *named]


def _argument(value: Any, read: Sequence[str], own: str, batch: str) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_argument(item, read, own, batch) for item in cast(list[Any], value))}]"
    if not isinstance(value, dict):
        return literal(value)
    known = cast(dict[str, Any], value)
    if "tensor" in known:
        return str(read[known["tensor"]])
    if "batch" in known:
        times, more = known["batch"]
        return (f"{times} * {batch}" if times != 1 else batch) + (f" + {more}" if more else "")
    if "dtype" in known:
        return f"{own}.dtype" if known["dtype"] == "own" else f"torch.{known['dtype']}"
    if "device" in known:
        return f"{own}.device"
    if "memory_format" in known:
        return f"torch.{known['memory_format']}"
    if "float" in known:
        return f'float("{known["float"]}")'
    train, evaluated = known["train"], known["eval"]
    if (train, evaluated) == (True, False):
        return "self.training"
    train, evaluated = (_argument(each, read, own, batch) for each in (train, evaluated))
    return f"{train} if self.training else {evaluated}"
