"""RemoveLayer: remove a layer or a block, for searches that also shrink (LEMONADE, arXiv 1804.09081)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

from morphs.choices import Choices
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.node import leading_to
from morphs.graph.ops import OPS, Role, Trait
from morphs.move import Context, Made, Move, Options, Preserves
from morphs.moves.editing import chosen, require
from morphs.network import Network

KIND = cast(Any, Literal)[tuple(op.kind for op in OPS)]


@dataclass(frozen=True)
class RemoveLayer(Move):
    """Let what reads `node` read `instead`, from which `node` is computed; remove what is then unused.

    With a convolution and what it reads, the layer is removed; with a sum and one of its terms, the branches that
    are the other terms. Both nodes write the same shape.
    """

    name: ClassVar[str] = "remove_layer"
    summary: ClassVar[str] = "remove a layer, or a residual block's branch"
    choices: ClassVar[Choices] = {"kinds": KIND}

    node: str
    instead: str

    @property
    def preserves(self) -> Preserves:
        """Approximate."""
        return Preserves.APPROXIMATE

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every sum with each of its terms, and every convolution and linear layer with its batch norm, if one
        follows. Options: kinds (of the op to remove).
        """
        kinds = chosen(options, "kinds", ("add", "conv2d", "linear"))
        for node in graph:
            if node.op.kind in kinds:
                end = _with_norm(graph, node)
                for source in dict.fromkeys(node.inputs):
                    yield cls(end, source)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node, instead = require(graph, self.name, self.node), require(graph, self.name, self.instead)
        if node.op.is_end or instead.name not in graph.ancestors(node.name):
            raise self.refuse(
                f'node "{node.name}" is not a layer that is computed from "{instead.name}"',
                "choose a layer, and a node before it",
            )
        shapes = graph.shape(node.name), graph.shape(instead.name)
        if shapes[0] != shapes[1]:
            raise self.refuse(
                f'"{node.name}" writes {shapes[0]} and "{instead.name}" {shapes[1]}',
                "choose nodes of one shape",
            )
        rewired = graph.rewired(node.name, instead.name)
        for reader in rewired:
            if reader.inputs.count(instead.name) > graph[reader.name].inputs.count(instead.name) > 0:
                raise self.refuse(
                    f'"{reader.name}" would read "{instead.name}" twice',
                    f'remove "{reader.name}" instead',
                )
        return graph.update(*rewired, removed=self._unneeded(graph, rewired))

    def _unneeded(self, graph: ArchGraph, rewired: tuple[Node, ...]) -> frozenset[str]:
        """The nodes from which no path leads to the output now; IllegalMove where one must stay."""
        after = {**{node.name: node for node in graph}, **{node.name: node for node in rewired}}
        live = leading_to(graph.output.name, after)
        for node in graph:
            if node.name not in live and node.op.trait is Trait.SOURCE:
                raise self.refuse(f'the input "{node.name}" would no longer be read', "choose another layer")
            if node.name in live and node.owner not in live:
                raise self.refuse(
                    f'"{node.owner}" would be removed and shares its parameters with "{node.name}", which stays',
                    "choose another layer",
                )
        return frozenset(after) - live

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """No tensor changes."""
        return {}


def _with_norm(graph: ArchGraph, node: Node) -> str:
    """The batch norm that alone reads `node`, which is useless without it; else `node` itself."""
    readers = graph.consumers(node.name)
    if len(readers) == 1 and graph[readers[0][0]].op.role is Role.NORM:
        return readers[0][0]
    return node.name
