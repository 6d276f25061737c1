"""Small steps that several moves share: looking for sites, wiring nodes in, checking names."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from morphs.errors import IllegalMove
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Input, Output, Pair
from morphs.move import Options


def require(graph: ArchGraph, move: str, name: str) -> Node:
    """Node `name`; IllegalMove naming the nodes there are when it does not exist."""
    if name not in graph:
        near = [node.name for node in graph if not isinstance(node.op, (Input, Output))]
        listed = ", ".join(near[:12]) + (", …" if len(near) > 12 else "")
        raise IllegalMove(f'{move}: there is no node "{name}"; choose one of {listed}')
    return graph[name]


def insert_after(graph: ArchGraph, name: str, *chain: Node) -> ArchGraph:
    """`graph` with `chain` (each reading the one before) between `name` and all its readers."""
    return graph.update(*graph.rewired(name, chain[-1].name), *chain)


def with_op(graph: ArchGraph, name: str, **changes: Any) -> tuple[Node, ...]:
    """The nodes that share parameters with `name`, their op's fields changed."""
    return tuple(
        replace(graph[user], op=replace(graph[user].op, **changes)) for user in graph.users(graph[name].owner)
    )


def choices(options: Options, key: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
    """The menu's values for `key`, or the default ones."""
    return tuple(options.get(key, default))


def pair(value: Iterable[int]) -> Pair:
    """Height and width from a menu, which may hold lists."""
    height, width = value
    return height, width


def feeds_output(graph: ArchGraph, name: str) -> bool:
    """Whether the network's output is `name` itself, without anything in between."""
    return all(isinstance(graph[reader].op, Output) for reader, _ in graph.consumers(name))


def owners(graph: ArchGraph, *kinds: str) -> Iterator[Node]:
    """The nodes of these kinds that own their parameters: one for each module, also where it is called twice."""
    return (node for node in graph if node.op.kind in kinds and node.owner == node.name)
