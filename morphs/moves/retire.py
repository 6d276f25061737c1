"""Retire: a P-activation that has learned to be plain becomes what it is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from morphs.graph.arch import ArchGraph
from morphs.move import Context, Made, Move, Options
from morphs.moves.editing import owners, require
from morphs.network import Network

WANTED = {"activation": 0, "identity": 1}


@dataclass(frozen=True)
class Retire(Move):
    """Replace the P-activation (1 − a)·φ(x) + a·x `node` by φ where every a is exactly 0, or remove it where every
    a is exactly 1.

    Training ends there by itself where `project_` holds a at an end of [0, 1]; nothing is taken within a tolerance.
    """

    name: ClassVar[str] = "retire"
    summary: ClassVar[str] = (
        "a P-activation whose a is exactly 0 becomes φ; one whose a is exactly 1 is removed"
    )

    node: str
    becomes: Literal["activation", "identity"] = "activation"

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every P-activation, both ways."""
        for node in owners(graph):
            if node.op.settled is not None:
                yield cls(node.name, "activation")
                yield cls(node.name, "identity")

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = require(graph, self.name, self.node)
        plain = node.op.settled
        if plain is None:
            raise self.refuse(f'node "{self.node}" has the op {node.op.kind}', "choose a p_activation")
        if self.becomes == "activation":
            users = graph.users(node.owner)
            return graph.update(*(replace(graph[user], op=plain) for user in users))
        if graph.is_shared(node.name):
            raise self.refuse(f'node "{self.node}" shares its parameters', "choose one that is used once")
        return graph.update(*graph.rewired(node.name, node.inputs[0]), removed=(node.name,))

    def check_weights(self, network: Network) -> None:
        """Every a must have the value at which the P-activation is what it becomes."""
        a = network.weights[network.graph[self.node].owner, "a"]
        off = int((a != WANTED[self.becomes]).sum())
        if not off:
            return
        other = next((way for way, value in WANTED.items() if bool((a == value).all())), None)
        wanted = WANTED[self.becomes]
        fact = (
            f"a = {float(a)!r}, not exactly {wanted}"
            if a.dim() == 0
            else f"{off} entries of a of {len(a)} that are not exactly {wanted}"
        )
        remedy = f"set becomes to {other}" if other else "train it further, or keep it"
        raise self.refuse(f'node "{self.node}" has {fact}', remedy)

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """No tensor changes; a is dropped."""
        return {}
