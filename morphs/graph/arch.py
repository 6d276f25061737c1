"""ArchGraph: an architecture as an immutable value: a directed acyclic multigraph of ops."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import networkx as nx

from morphs.errors import GraphError
from morphs.graph.check import check_nodes
from morphs.graph.codec import nodes_to_json
from morphs.graph.edit import edited
from morphs.graph.node import Key, Node, canonical_order
from morphs.graph.ops import Param, Shape, Trait
from morphs.graph.show import node_to_text
from morphs.graph.state import Facts, State, Totals, state_of

T = TypeVar("T")


class ArchGraph:
    """A well-formed architecture: nodes are ops, edges are tensors with an argument slot.

    Construction checks every rule of `graph.check`, so that a malformed ArchGraph does not exist. Nodes are
    kept in a canonical order: topological, ties broken by name. Values compare and hash by content.

    Raises GraphError (ShapeError where shapes don't fit) naming node and rule.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        listed = tuple(nodes)
        check_nodes(listed)
        self._keep(state_of(canonical_order(listed)))

    def _keep(self, state: State) -> None:
        self._state = state
        self._nodes = state.nodes  # in any order
        self._known: dict[Callable[[ArchGraph], Any], Any] = {}

    @cached_property
    def _order(self) -> tuple[str, ...]:
        """The names in canonical order, which listing the children of a graph never asks for. Graphs wired and owned
        alike that are edits of one another share it."""
        return tuple([node.name for node in canonical_order(self._nodes.values())])

    @cached_property
    def _ordered(self) -> tuple[Node, ...]:
        return tuple([self._nodes[name] for name in self._order])

    # -- reading ---------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            near = ", ".join(n.name for n in self) if len(self) <= 40 else f"{len(self)} others"
            raise GraphError(f'graph: there is no node "{name}"; there are {near}') from None

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self._ordered)

    def __len__(self) -> int:
        return len(self._nodes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchGraph) and self._nodes == other._nodes

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self._ordered)

    def __repr__(self) -> str:
        return f"ArchGraph({len(self)} nodes, {self.fingerprint[:12]})"

    def __reduce__(self) -> tuple[type["ArchGraph"], tuple[tuple[Node, ...]]]:
        return ArchGraph, (tuple(self),)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The Input nodes, in canonical order."""
        return tuple(node for node in self if node.op.trait is Trait.SOURCE)

    @cached_property
    def output(self) -> Node:
        """The Output node."""
        return next(node for node in self._nodes.values() if node.op.trait is Trait.SINK)

    def shape(self, name: str) -> Shape:
        """Shape of the tensor that `name` writes, without the batch axis."""
        return self.facts(name).shape

    def input_shapes(self, name: str) -> tuple[Shape, ...]:
        """Shapes of the tensors that `name` reads, slot by slot."""
        return tuple(self._state.facts[source].shape for source in self[name].inputs)

    def facts(self, name: str) -> Facts:
        """What is known of `name`: the shape it writes, its parameters, its cost."""
        return self._state.facts[self[name].name]

    @property
    def totals(self) -> Totals:
        """Sums of the nodes' costs."""
        return self._state.totals

    @property
    def depth(self) -> int:
        """Most layers with weights (conv2d, linear) on one path."""
        return max(self._state.depth.values())

    @property
    def width(self) -> int:
        """Channels of the widest feature map or vector of a layer."""
        return self._state.width

    def once(self, work: "Callable[[ArchGraph], T]") -> T:
        """`work(self)`, a pure function of the graph, worked out no more than once for this value."""
        if work not in self._known:
            self._known[work] = work(self)
        return self._known[work]

    def seed(self, work: "Callable[[ArchGraph], T]", found: T) -> None:
        """Keep what is known to be `work(self)`, for `once`."""
        self._known.setdefault(work, found)

    def topological(self) -> Iterator[Node]:
        """All nodes, each after those it reads; unlike the canonical order this costs nothing to find."""
        places = self._state.places
        return (self._nodes[name] for name in sorted(self._nodes, key=places.__getitem__))

    def consumers(self, name: str) -> tuple[tuple[str, int], ...]:
        """(node, slot) of every reader of `name`, in canonical order; `x + x` reads twice."""
        return self._consumers.get(name, ())

    @cached_property
    def _consumers(self) -> dict[str, tuple[tuple[str, int], ...]]:
        readers: dict[str, list[tuple[str, int]]] = {}
        for node in self:
            for slot, source in enumerate(node.inputs):
                readers.setdefault(source, []).append((node.name, slot))
        return {name: tuple(found) for name, found in readers.items()}

    @cached_property
    def params(self) -> Mapping[Key, Param]:
        """Every parameter and buffer, keyed (owner, parameter), in canonical order."""
        return MappingProxyType(
            {
                (node.name, name): param
                for node in self
                if node.owner == node.name
                for name, param in self._state.facts[node.name].params.items()
            }
        )

    def changed_params(self, before: "ArchGraph") -> dict[Key, Param] | None:
        """The parameters that aren't the very same in `before`, cheaply where this graph came of it by an edit that
        left the wiring alone; None where it didn't, or the parameters have other names or another order.
        """
        if self._order is not before._order:
            return None
        changed: dict[Key, Param] = {}
        old = before._state.facts
        for name, facts in self._state.facts.items():
            if facts is not old[name] and self._nodes[name].owner == name:
                if [*facts.params] != [*old[name].params]:
                    return None
                changed.update({(name, which): param for which, param in facts.params.items()})
        return changed

    def users(self, owner: str) -> tuple[str, ...]:
        """The nodes that use the parameters of `owner`, itself among them."""
        users = self._state.shared.get(owner)
        if users is None:
            return (owner,) if owner in self and self[owner].owner == owner else ()
        return tuple(node.name for node in self if node.name in users)

    def is_shared(self, name: str) -> bool:
        """Whether the parameters of `name` are used by another node too."""
        return len(self.users(self[name].owner)) > 1

    def ancestors(self, name: str) -> frozenset[str]:
        """Every node from which a path leads to `name`."""
        mask, bit = self._ancestry[self[name].name], self._bits
        return frozenset(other for other in self._nodes if mask & bit[other])

    def leads_to(self, source: str, target: str) -> bool:
        """Whether a path leads from `source` to `target`, another node."""
        return bool(self._ancestry[self[target].name] & self._bits[self[source].name])

    @cached_property
    def _bits(self) -> dict[str, int]:
        return {name: 1 << place for place, name in enumerate(self._nodes)}

    @cached_property
    def _ancestry(self) -> dict[str, int]:
        """For each node the set of its ancestors, as the bits of a number."""
        found: dict[str, int] = {}
        for node in self.topological():
            found[node.name] = 0
            for source in node.inputs:
                found[node.name] |= found[source] | self._bits[source]
        return found

    def networkx(self) -> "nx.MultiDiGraph[str]":
        """A copy to keep: node attributes `op` and `owner`, edge attribute `slot`. Changing it changes nothing here."""
        dag = nx.MultiDiGraph()
        for node in self:
            dag.add_node(node.name, op=node.op, owner=node.owner)
        for node in self:
            for slot, source in enumerate(node.inputs):
                dag.add_edge(source, node.name, slot=slot)
        return dag

    # -- text and identity -----------------------------------------------------------------------

    def to_json(self) -> str:
        """Canonical JSON: equal graphs give equal bytes."""
        return nodes_to_json(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def text(self) -> str:
        """Short text form, one line for each node; `morphs.parse_graph` reads it back."""
        return "\n".join(map(node_to_text, self))

    # -- editing: every edit is a new graph --------------------------------------------------------

    def update(self, *changed: Node, removed: Iterable[str] = ()) -> "ArchGraph":
        """A graph in which `changed` replace the nodes of the same names (or are new) and `removed` are gone."""
        gone = tuple(removed)
        state = edited(self._state, self._consumers, changed, gone)
        if state is None:
            nodes = {node.name: node for node in (*self, *changed)}
            return ArchGraph(node for name, node in nodes.items() if name not in gone)
        graph = object.__new__(ArchGraph)
        graph._keep(state)
        if not gone and all(n.name in self and n.wiring == self._nodes[n.name].wiring for n in changed):
            graph.__dict__.update(_order=self._order, _consumers=self._consumers)
        return graph

    def rewired(self, old: str, new: str, keep: Iterable[str] = ()) -> tuple[Node, ...]:
        """The readers of `old`, changed to read `new`; those named in `keep` are left out."""
        kept = set(keep)
        readers = dict.fromkeys(reader for reader, _ in self.consumers(old) if reader not in kept)
        return tuple(
            Node(node.name, node.op, tuple(new if i == old else i for i in node.inputs), node.owner)
            for node in map(self.__getitem__, readers)
        )

    def fresh(self, stem: str, taken: Iterable[str] = ()) -> str:
        """The first of stem1, stem2, … that is not the name of a node here or in `taken`."""
        also, number = set(taken), 1
        while f"{stem}{number}" in self._nodes or f"{stem}{number}" in also:
            number += 1
        return f"{stem}{number}"
