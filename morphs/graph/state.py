"""What is worked out of every node once, when a graph is made: its shape, parameters and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from math import prod
from types import MappingProxyType

from morphs.errors import ShapeError
from morphs.graph.node import Node
from morphs.graph.ops import Op, Param, Role, Shape, Trait

Readers = Mapping[str, tuple[tuple[str, int], ...]]  # (node, slot) of every reader of a node
OWN_WIDTH = (Trait.SOURCE, Trait.ABSORB, Trait.STACK)  # of an op that writes a width of its own
SCALARS = (Trait.OPAQUE, Trait.SINK)  # of an op that may read what has no axis besides the batch


@dataclass(frozen=True, slots=True)
class Facts:
    """What an op makes of tensors of known shapes.

    weights: trainable numbers. size: elements written. width: channels, of a layer that has its own; else 0.
    """

    shape: Shape
    params: Mapping[str, Param]
    weights: int
    macs: int
    size: int
    width: int


@lru_cache(maxsize=2**14)
def facts_of(op: Op, inputs: tuple[Shape, ...]) -> Facts:
    """The facts of `op` reading `inputs`; ShapeError when they don't fit."""
    if () in inputs and op.trait not in SCALARS:
        raise ShapeError(f"{op.kind} reads a tensor without axes besides the batch; give it one")
    shape = op.shape(inputs)
    params = op.params(inputs)
    # 8.0 equals 8: what is kept for one would be given to the other.
    if any(type(n) is not int for n in (*shape, *(n for param in params.values() for n in param.shape))):
        raise ShapeError(f"{op.kind} writes {shape}: sizes are whole numbers; give integers")
    weights = sum(prod(param.shape) for param in params.values() if param.trainable)
    width = shape[op.axis] if shape and op.trait in OWN_WIDTH else 0
    return Facts(shape, MappingProxyType(params), weights, op.macs(inputs), prod(shape), width)


def alike(one: Facts, other: Facts) -> bool:
    """Whether they have parameters of the same names and shapes."""
    if one.params == other.params:
        return True
    shapes = [{name: param.shape for name, param in facts.params.items()} for facts in (one, other)]
    return shapes[0] == shapes[1]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a graph: trainable numbers, multiply-adds and elements written for one image."""

    weights: int = 0
    macs: int = 0
    size: int = 0

    def plus(self, node: Node, facts: Facts, sign: int = 1) -> Totals:
        """With `node` added, or taken away where `sign` is −1; its weights count where it owns them."""
        owned = facts.weights if node.owner == node.name else 0
        return Totals(
            self.weights + sign * owned, self.macs + sign * facts.macs, self.size + sign * facts.size
        )


@dataclass(frozen=True)
class State:
    """A well-formed graph's nodes with their facts. Never written to once a graph holds it.

    places: a number for each node, larger than those of the nodes it reads. shared: the users of each owner that has
    several. width: of the widest layer. earlier: of the state that this is an edit of, where they are known, the
    depths and the readers; and the nodes that were changed since.
    """

    nodes: dict[str, Node]
    facts: dict[str, Facts]
    places: dict[str, float]
    shared: dict[str, tuple[str, ...]]
    totals: Totals
    width: int
    earlier: tuple[Mapping[str, int], Readers, tuple[str, ...]] | None = None

    @cached_property
    def depth(self) -> Mapping[str, int]:
        """Most layers with weights on a path that ends at each node; worked out when a limit asks for it."""
        if self.earlier is not None:
            return _depths_after(self, *self.earlier)
        depth: dict[str, int] = {}
        for name in sorted(self.nodes, key=self.places.__getitem__):
            depth[name] = _deep(self.nodes[name], depth)
        return depth


def state_of(ordered: Iterable[Node]) -> State:
    """The state of checked nodes in topological order. Raises ShapeError naming the node."""
    nodes = {node.name: node for node in ordered}
    facts: dict[str, Facts] = {}
    totals = Totals()
    for node in nodes.values():
        try:
            facts[node.name] = facts_of(node.op, tuple(facts[source].shape for source in node.inputs))
        except ShapeError as error:
            raise ShapeError(f'node "{node.name}": {error}') from None
        totals = totals.plus(node, facts[node.name])
    shared = sharing(nodes)
    for owner, users in shared.items():
        for user in users:
            if not alike(facts[user], facts[owner]):
                raise ShapeError(
                    f'node "{user}": it needs other parameter shapes than its owner "{owner}"; make them equal'
                )
    places = {name: float(place) for place, name in enumerate(nodes)}
    return State(nodes, facts, places, shared, totals, max(known.width for known in facts.values()))


def _deep(node: Node, depth: Mapping[str, int]) -> int:
    """Most layers with weights on a path that ends at `node`."""
    below = max([depth[source] for source in node.inputs]) if node.inputs else 0
    return below + (node.op.role is Role.LAYER)


def _depths_after(
    state: State, before: Mapping[str, int], readers: Readers, changed: tuple[str, ...]
) -> dict[str, int]:
    """The depths in `state`: those of `before`, but for changed nodes and what is deeper or less deep downstream."""
    depth = {name: before[name] for name in state.nodes if name in before}
    queue = [(state.places[name], name) for name in changed]
    heapify(queue)
    queued = set(changed)
    while queue:
        name = heappop(queue)[1]
        depth[name] = _deep(state.nodes[name], depth)
        if name not in before or depth[name] == before[name]:  # what reads a new node is changed itself
            continue
        for reader, _ in readers.get(name, ()):
            if reader in state.nodes and reader not in queued:
                queued.add(reader)
                heappush(queue, (state.places[reader], reader))
    return depth


def sharing(nodes: Mapping[str, Node]) -> dict[str, tuple[str, ...]]:
    """The users of each owner that has several."""
    owners = dict.fromkeys(node.owner for node in nodes.values() if node.owner != node.name)
    return {owner: tuple(name for name, node in nodes.items() if node.owner == owner) for owner in owners}
