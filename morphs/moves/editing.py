"""Small steps that several moves share: looking for sites, wiring nodes in, checking names."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from morphs.errors import IllegalMove
from morphs.graph.activations import ACTIVATIONS, PRELU, known_activations
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Layer, PActivation, Pair, Role, Sliding, Trait
from morphs.graph.widths import channel_groups
from morphs.move import Move, Options


def require(graph: ArchGraph, move: str, name: str) -> Node:
    """Node `name`; IllegalMove naming the nodes there are when it does not exist."""
    if name not in graph:
        near = [node.name for node in graph if not node.op.is_end]
        listed = ", ".join(near[:12]) + (", …" if len(near) > 12 else "")
        raise IllegalMove(f'{move}: there is no node "{name}"; choose one of {listed}')
    return graph[name]


def inside(move: Move, graph: ArchGraph, name: str) -> Node:
    """Node `name`; IllegalMove where it does not exist or is an end of the network."""
    node = require(graph, move.name, name)
    if node.op.is_end:
        raise move.refuse(f'node "{name}" is an {node.op.kind}', "choose a layer inside the network")
    return node


def layer_at(move: Move, graph: ArchGraph, name: str) -> Layer:
    """The layer at node `name`, which no other node shares; else IllegalMove."""
    op = require(graph, move.name, name).op
    if op.layer is None:
        raise move.refuse(f'node "{name}" has the op {op.kind}', "choose a conv2d or linear")
    if graph.is_shared(name):
        raise move.refuse(f'node "{name}" shares its parameters', "choose a layer that is used once")
    return op.layer


def convolution_at(move: Move, graph: ArchGraph, name: str) -> Sliding:
    """The convolution at node `name`, of a signal, a map or a volume; else IllegalMove."""
    op = require(graph, move.name, name).op
    if op.slides is None:
        raise move.refuse(f'node "{name}" has the op {op.kind}', "choose a conv2d or conv")
    return op.slides


def insert_after(graph: ArchGraph, name: str, *chain: Node) -> ArchGraph:
    """`graph` with `chain` (each reading the one before) between `name` and all its readers."""
    return graph.update(*graph.rewired(name, chain[-1].name), *chain)


def with_op(graph: ArchGraph, name: str, **changes: Any) -> tuple[Node, ...]:
    """The nodes that share parameters with `name`, their op's fields changed."""
    return tuple(
        replace(graph[user], op=replace(graph[user].op, **changes)) for user in graph.users(graph[name].owner)
    )


def width_axis(graph: ArchGraph, name: str) -> int:
    """The axis along which what `name` writes has its width: 0 of vectors and maps, −1 of tokens."""
    axis, rank = channel_groups(graph).main[name], len(graph.shape(name))
    return -1 if axis == rank - 1 > 0 else axis


def neutral_activation(move: str, fn: str, per_channel: bool, axis: int = 0) -> PActivation:
    """The P-activation of φ = `fn`, the identity at a = 1; `prelu` is that of ReLU. IllegalMove of an unknown φ."""
    if fn != PRELU and fn not in ACTIVATIONS:
        raise IllegalMove(f"{move}: activation {fn} is unknown; {known_activations()}")
    return PActivation(
        "relu" if fn == PRELU else fn, per_channel=per_channel, axis=axis if per_channel else 0
    )


def chosen(options: Options, key: str, default: tuple[Any, ...]) -> tuple[Any, ...]:
    """The menu's values for `key`, or the default ones."""
    return tuple(options.get(key, default))


def pair(value: Iterable[int]) -> Pair:
    """Height and width from a menu, which may hold lists."""
    height, width = value
    return height, width


def feeds_output(graph: ArchGraph, name: str) -> bool:
    """Whether the network's output is `name` itself, without anything in between."""
    return all(graph[reader].op.trait is Trait.SINK for reader, _ in graph.consumers(name))


def owners(graph: ArchGraph) -> Iterator[Node]:
    """The nodes that own their parameters: one for each module, also where it is called twice."""
    return (node for node in graph if node.owner == node.name)


def layers(graph: ArchGraph) -> Iterator[tuple[str, Layer]]:
    """Each layer that owns its parameters, with its node's name."""
    return ((node.name, node.op.layer) for node in owners(graph) if node.op.layer is not None)


def convolutions(graph: ArchGraph) -> Iterator[tuple[str, Sliding]]:
    """Each convolution that owns its parameters, of a signal, a map or a volume, with its node's name."""
    return ((node.name, node.op.slides) for node in owners(graph) if node.op.slides is not None)


def read_by(graph: ArchGraph, name: str, *roles: Role) -> str | None:
    """The first reader of `name` whose op has one of these roles, if any."""
    return next((reader for reader, _ in graph.consumers(name) if graph[reader].op.role in roles), None)


ABSORBED_BY = {"relu": ("relu6",)}  # apart from itself, which an idempotent φ is absorbed by


def absorbed(graph: ArchGraph, name: str, fn: str) -> bool:
    """Whether an idempotent φ = `fn` put after `name` would change nothing, since whatever reads `name` applies φ, or
    one that absorbs it, at once or after a layer that commutes with φ.

    The a of its P-activation would then have no gradient: where φ(x) isn't x, the φ that follows passes none on.
    """
    relu = fn in ("relu", "relu6")
    readers = [graph[reader] for reader, _ in graph.consumers(name)]
    return all(
        reader.op.phi in (fn, *ABSORBED_BY.get(fn, ()))
        if reader.op.phi is not None
        else (reader.op.commutes or (relu and reader.op.commutes_with_relu))
        and absorbed(graph, reader.name, fn)
        for reader in readers
    )


def writes_fixpoints(graph: ArchGraph, name: str, fn: str) -> bool:
    """Whether everything `name` writes is left as it is by the idempotent φ = `fn`, judged from the graph alone.

    φ is continuous, so that what it leaves as it is is an interval: means and maxima stay within.
    """
    keeps: dict[str, bool] = {}
    for node in graph:
        op = node.op
        if op.phi is not None:
            keeps[node.name] = _within_fixpoints(op.phi, fn)
        else:
            stays = op.keeps_range and (ACTIVATIONS[fn].zero_at_zero or not op.pads_with_zeros)
            stays = stays or (fn == "relu" and op.keeps_sign)
            keeps[node.name] = stays and all(keeps[source] for source in node.inputs)
        if node.name == name:
            break
    return keeps[name]


def _within_fixpoints(other: str, fn: str) -> bool:
    """Whether all values of one function are left as they are by the idempotent φ = `fn`."""
    if fn == "relu":
        return ACTIVATIONS[other].nonnegative
    return other == fn or (other, fn) == ("sigmoid", "relu6")
