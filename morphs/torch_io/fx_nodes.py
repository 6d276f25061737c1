"""What the nodes of an exported graph say of themselves."""

from typing import Any, cast

import torch
from torch._ops import HigherOrderOperator
from torch.fx import Node

from morphs.torch_io.program import Frame


def bound(schema: Any, node: Node) -> dict[str, Any]:
    """The arguments by name, in the schema's order, defaults filled in."""
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False))
    return {
        a.name: given[a.name] if a.name in given else node.kwargs.get(a.name, a.default_value)
        for a in schema.arguments
    }


def taken_out(meta: Any) -> bool:
    """Whether it is a whole number that a tensor holds, and no size."""
    names = map(str, cast(Any, meta).node.expr.free_symbols if isinstance(meta, torch.SymInt) else ())
    return any(name.startswith("u") for name in names)


def operator_name(node: Node) -> tuple[str, str]:
    """Namespace and name."""
    target: Any = node.target
    if isinstance(target, HigherOrderOperator):
        return "higher_order", target.name()
    if hasattr(target, "_opname"):
        return target.namespace, target._opname
    return "", getattr(target, "__name__", str(target))


def storage(tensor: torch.Tensor) -> int:
    """The same number for tensors that share memory."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def scope_of(node: Node) -> tuple[Frame, ...]:
    """The modules whose forwards were running, the outermost first."""
    frames: list[Frame] = []
    for key, (path, cls) in node.meta.get("nn_module_stack", {}).items():
        if str(key).startswith("_empty"):
            continue
        _, _, call = str(key).partition("@")
        name = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
        frames.append(Frame(str(path).partition("@")[0], name, int(call) if call.isdigit() else 0))
    return tuple(frames)
