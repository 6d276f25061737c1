"""A module's torch.fx trace, with names and places for what is in it."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from morphs.torch_io.read_layers import layer_class
from morphs.torch_io.to_torch import module_path


@dataclass(frozen=True)
class Trace:
    """A module with its trace: `scopes` says in which submodule each fx node was recorded."""

    module: nn.Module
    nodes: tuple[fx.Node, ...]
    scopes: Mapping[str, str]


class Proxy(fx.Proxy):
    """A proxy that keeps += and *= apart from + and *, since they write into what others may read."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})


class Tracer(fx.Tracer):
    """Records calls of the vocabulary's layers as such, and in which module tracing failed."""

    failed: str = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """The layers of the vocabulary, and torch's own."""
        return layer_class(m) is not None or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A Proxy of ours."""
        return Proxy(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """As torch does, noting the innermost module in which something is raised."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.path_of_module(m)
            raise


def record(module: nn.Module, tracer: Tracer, defaults: dict[str, Any] | None) -> Trace:
    """The trace of `module`, the arguments in `defaults` held at their values. Raises what the forward raises."""
    before = set(vars(module))
    try:
        graph = tracer.trace(module, defaults)
    finally:  # fx keeps constants that it meets on the module itself
        for name in set(vars(module)) - before:
            if name.startswith("_tensor_constant"):
                delattr(module, name)
    scopes = {name: scope[0] for name, scope in tracer.node_name_to_scope.items()}
    return Trace(module, tuple(graph.nodes), scopes)


def module_place(path: str, module: nn.Module) -> str:
    """How an error names a module."""
    return (
        f'from_torch: module "{path}" ({type(module).__name__})' if path else "from_torch: the module itself"
    )


def place(trace: Trace, node: fx.Node) -> str:
    """How an error names an fx node: by module path or function."""
    target = str(node.target)
    if node.op == "call_module":
        return module_place(target, trace.module.get_submodule(target))
    if node.op in ("get_attr", "placeholder"):
        return f'from_torch: {"input" if node.op == "placeholder" else "parameter or buffer"} "{target}"'
    scope = trace.scopes.get(node.name, "")
    within = f'module "{scope}"' if scope else "the module's forward"
    return f"from_torch: {'method' if node.op == 'call_method' else 'function'} {_called(node)} in {within}"


def _called(node: fx.Node) -> str:
    name = getattr(node.target, "__name__", str(node.target))
    # the name of a function that torch dispatches on a flag is only in the node's
    return re.sub(r"_\d+$", "", node.name) if name == "fn" else name


def writes_in_place(trace: Trace, node: fx.Node) -> bool:
    """Whether the call writes into a tensor that it is given: as a rule into the first."""
    if node.op == "call_module":
        return bool(getattr(trace.module.get_submodule(str(node.target)), "inplace", False))
    name = _called(node)
    return (
        (name.endswith("_") and not name.endswith("__"))
        or name in ("iadd", "imul", "setitem")
        or bool(node.kwargs.get("inplace"))
        or "out" in node.kwargs
    )


def node_name(path: str) -> str:
    """The name of the node for the module at `path`: the path itself, where that is a name.

    The inverse of `module_path` for paths that it made.
    """
    bare = ".".join(part.removeprefix("node_") for part in path.split("."))
    return legal_name(bare if module_path(bare) == path else path)


def legal_name(path: str) -> str:
    """`path` as a node's name: layer0 for the unnamed 0 of a Sequential."""
    name = re.sub(r"[^\w.]", "_", path, flags=re.ASCII)
    return f"layer{name}" if name[:1].isdigit() else name
