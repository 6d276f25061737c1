"""Small steps that several moves share: looking for sites, wiring nodes in, checking names."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from morphs.errors import IllegalMove
from morphs.graph.activations import ACTIVATIONS, PRELU, known_activations
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Activation, Input, Output, PActivation, Pair
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


def neutral_activation(move: str, fn: str, per_channel: bool) -> PActivation:
    """The P-activation of φ = `fn`, the identity at a = 1; `prelu` is that of ReLU. IllegalMove of an unknown φ."""
    if fn != PRELU and fn not in ACTIVATIONS:
        raise IllegalMove(f"{move}: activation {fn} is unknown; {known_activations()}")
    return PActivation("relu" if fn == PRELU else fn, per_channel=per_channel)


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


KEEP_NONNEGATIVE = frozenset((
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "flatten", "dropout", "concat", "add",
    "multiply", "lerp",
))  # fmt: skip


def all_apply(graph: ArchGraph, name: str, fn: str) -> bool:
    """Whether all that reads `name` is the plain φ = `fn`. An idempotent φ put between changes nothing, and the a of
    its P-activation would have no gradient: where φ(x) isn't x, the φ that follows passes none on.
    """
    readers = [graph[reader].op for reader, _ in graph.consumers(name)]
    return all(isinstance(op, Activation) and op.fn == fn for op in readers)


def writes_fixpoints(graph: ArchGraph, name: str, fn: str) -> bool:
    """Whether everything `name` writes is left as it is by φ = `fn`, judged from the graph alone."""
    keeps: dict[str, bool] = {}
    for node in graph:
        if isinstance(node.op, Activation):
            keeps[node.name] = node.op.fn == fn or (fn == "relu" and ACTIVATIONS[node.op.fn].nonnegative)
        else:
            passes = fn == "relu" and node.op.kind in KEEP_NONNEGATIVE
            keeps[node.name] = passes and all(keeps[source] for source in node.inputs)
        if node.name == name:
            break
    return keeps[name]
