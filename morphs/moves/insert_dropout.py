"""InsertDropout: regularisation for a network that overfits (Dropout, Srivastava et al. 2014)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from morphs.choices import Choices
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Dropout, Role, Trait
from morphs.move import Context, Made, Move, Options, Preserves
from morphs.moves.editing import chosen, feeds_output, insert_after, require
from morphs.network import Network


@dataclass(frozen=True)
class InsertDropout(Move):
    """Put dropout with probability `p` after `node`. It does nothing in eval mode and is noise in train mode."""

    name: ClassVar[str] = "insert_dropout"
    summary: ClassVar[str] = "dropout, which does nothing in eval mode"
    choices: ClassVar[Choices] = {"p": ...}

    node: str
    p: float = 0.5

    @property
    def preserves(self) -> Preserves:
        """Exact in eval."""
        return Preserves.EXACT_IN_EVAL

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """After every non-linearity. Options: p."""
        for node in graph:
            if node.op.role is Role.ACTIVATION:
                for p in chosen(options, "p", (0.2,)):
                    yield cls(node.name, p)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: on the network's output."""
        child = self.reshape(graph)
        if feeds_output(graph, self.node):
            raise self.refuse(f'node "{self.node}" feeds the output', "choose a layer inside the network")
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = require(graph, self.name, self.node)
        if node.op.trait is Trait.SINK:
            raise self.refuse(f'node "{self.node}" is the output', "choose the layer it reads")
        if not 0 < self.p < 1:
            raise self.refuse(
                f'dropout of probability {self.p} after "{self.node}" drops nothing or everything',
                "choose 0 < p < 1",
            )
        beside = (node.op, *(graph[reader].op for reader, _ in graph.consumers(node.name)))
        if any(op.role is Role.DROPOUT for op in beside):
            raise self.refuse(f'node "{self.node}" is next to a dropout already', "choose another node")
        return insert_after(graph, node.name, Node(graph.fresh("drop"), Dropout(self.p), (node.name,)))

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Dropout has no weights."""
        return {}
