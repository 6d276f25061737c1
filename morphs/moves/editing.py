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


ABSORBED_BY = {"relu": ("relu6",)}  # besides itself, which an idempotent φ is absorbed by
KEEP_INTERVAL = frozenset((
    "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "flatten", "concat", "lerp",
))  # fmt: skip
KEEP_NONNEGATIVE = KEEP_INTERVAL | {"dropout", "add", "multiply"}
COMMUTE = frozenset(("flatten", "concat"))  # with any φ
COMMUTE_WITH_RELU = COMMUTE | {"max_pool2d", "adaptive_max_pool2d", "dropout"}  # and with ReLU6


def absorbed(graph: ArchGraph, name: str, fn: str) -> bool:
    """Whether an idempotent φ = `fn` put after `name` would change nothing, since whatever reads `name` applies φ, or
    one that absorbs it, at once or after a layer that commutes with φ.

    The a of its P-activation would then have no gradient: where φ(x) isn't x, the φ that follows passes none on.
    """
    commute = COMMUTE_WITH_RELU if fn in ("relu", "relu6") else COMMUTE
    readers = [graph[reader] for reader, _ in graph.consumers(name)]
    return all(
        reader.op.fn in (fn, *ABSORBED_BY.get(fn, ()))
        if isinstance(reader.op, Activation)
        else reader.op.kind in commute and absorbed(graph, reader.name, fn)
        for reader in readers
    )


def writes_fixpoints(graph: ArchGraph, name: str, fn: str) -> bool:
    """Whether everything `name` writes is left as it is by the idempotent φ = `fn`, judged from the graph alone.

    φ is continuous, so that what it leaves as it is is an interval: means and maxima stay within.
    """
    kinds = KEEP_NONNEGATIVE if fn == "relu" else KEEP_INTERVAL
    if not ACTIVATIONS[fn].zero_at_zero:
        kinds -= {"avg_pool2d"}  # it averages zeros of its padding
    keeps: dict[str, bool] = {}
    for node in graph:
        if isinstance(node.op, Activation):
            keeps[node.name] = _within_fixpoints(node.op.fn, fn)
        else:
            keeps[node.name] = node.op.kind in kinds and all(keeps[source] for source in node.inputs)
        if node.name == name:
            break
    return keeps[name]


def _within_fixpoints(other: str, fn: str) -> bool:
    """Whether all values of one function are left as they are by the idempotent φ = `fn`."""
    if fn == "relu":
        return ACTIVATIONS[other].nonnegative
    return other == fn or (other, fn) == ("sigmoid", "relu6")
