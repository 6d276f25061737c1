"""Node: one place in an architecture, and the canonical order of nodes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush

import networkx as nx

from morphs.errors import GraphError
from morphs.graph.ops import Op

Key = tuple[str, str]  # (owner node, parameter or buffer)


@dataclass(frozen=True)
class Node:
    """One place in the graph: an op, the nodes it reads (slot by slot), and the owner of its parameters.

    `owner` is the node itself by default. Two nodes with one owner are one module called twice.
    """

    name: str
    op: Op
    inputs: tuple[str, ...] = ()
    owner: str = ""

    def __post_init__(self) -> None:
        if not self.owner:
            object.__setattr__(self, "owner", self.name)

    @property
    def wiring(self) -> tuple[str, tuple[str, ...]]:
        """Whose parameters it uses and what it reads."""
        return self.owner, self.inputs


def canonical_order(nodes: Iterable[Node]) -> list[Node]:
    """Topological order in which, among the nodes that could come next, the first by name comes first.

    (That of networkx.lexicographical_topological_sort, which is far slower.) Raises GraphError at a cycle.
    """
    nodes = tuple(nodes)
    by_name = {node.name: node for node in nodes}
    waiting = {node.name: len(node.inputs) for node in nodes}
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for source in node.inputs:
            readers.setdefault(source, []).append(node.name)
    ready = [(natural_key(name), name) for name, count in waiting.items() if count == 0]
    heapify(ready)
    order: list[Node] = []
    while ready:
        name = heappop(ready)[1]
        order.append(by_name[name])
        for reader in readers.get(name, ()):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heappush(ready, (natural_key(reader), reader))
    if len(order) < len(nodes):
        done = {node.name for node in order}
        stuck = nx.DiGraph((s, n.name) for n in nodes if n.name not in done for s in n.inputs)
        cycle = " -> ".join(edge[0] for edge in nx.find_cycle(stuck))
        raise GraphError(f"graph: nodes {cycle} form a cycle; leave out one of these edges")
    return order


def leading_to(end: str, nodes: Mapping[str, Node]) -> set[str]:
    """The names of the nodes from which a path leads to `end`, itself among them."""
    found: set[str] = set()
    stack = [end]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(nodes[name].inputs)
    return found


@lru_cache(maxsize=2**16)
def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which c2 comes before c10."""
    parts = re.findall(r"\d+|\D+", name)
    return (*((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts), (2, 0, name))
