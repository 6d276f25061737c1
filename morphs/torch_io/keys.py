"""Where a network's tensors are in the state of its module: under which keys, in which order."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import nn

from morphs.graph.arch import ArchGraph
from morphs.graph.node import Key
from morphs.torch_io.names import module_path

Keys = Mapping[Key, str]


def state_keys(graph: ArchGraph, keys: Keys) -> dict[Key, str]:
    """The key of each tensor of `graph`, in the order of the module's state.

    keys: those that are to be kept, in their order. Another tensor has its node's path, numbered where that is taken,
    and follows the one that it follows in the graph.
    """
    if not keys:
        return {key: default_key(*key, graph) for key in graph.params}
    known = {key: place for key, place in keys.items() if key in graph.params}
    owners = {key.rpartition(".")[0]: owner for (owner, _), key in known.items()}
    places = {key: float(number) for number, key in enumerate(keys)}
    last, found = -1.0, dict[Key, tuple[float, int, str]]()
    for number, key in enumerate(graph.params):
        last = places.get(key, last)
        found[key] = (last, number if key not in known else -1, known.get(key) or _free(key, graph, owners))
    return {key: found[key][2] for key in sorted(found, key=lambda key: found[key][:2])}


def _free(key: Key, graph: ArchGraph, owners: dict[str, str]) -> str:
    wanted = default_key(*key, graph)
    path, _, name = wanted.rpartition(".")
    while owners.setdefault(path, key[0]) != key[0] and path:
        path += "_"
    return f"{path}.{name}" if path else name


def default_key(owner: str, name: str, graph: ArchGraph) -> str:
    """The key of a tensor that came from no module: its node's path and its name."""
    path = module_path(owner)
    return path if graph[owner].op.kind == "tensor" else f"{path}.{name}"


def reorder(module: nn.Module, order: Iterable[str]) -> None:
    """Put the parameters, buffers and submodules of `module` in the order of their keys, the others last."""
    ranks: dict[str, int] = {}
    for number, key in enumerate(order):
        parts = key.split(".")
        for size in range(1, len(parts) + 1):
            ranks.setdefault(".".join(parts[:size]), number)
    for path, part in module.named_modules(remove_duplicate=False):
        # torch has no way to move an entry
        for held in cast(list[dict[str, Any]], [part._parameters, part._buffers, part._modules]):  # pyright: ignore
            known = dict(held)
            names = sorted(known, key=lambda name: ranks.get(f"{path}.{name}" if path else name, len(ranks)))
            if names != [*known]:
                held.clear()
                held.update({name: known[name] for name in names})
