"""AddSkip: a shortcut that starts neutral (NASH, arXiv 1711.04528, network morphism type III)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Add, Output, Scale
from morphs.move import NEW, Context, Made, Move, Options
from morphs.moves.editing import choices, require
from morphs.network import Network

SOURCES = ("activation", "p_activation", "add", "max_pool2d", "avg_pool2d", "concat")
TARGETS = ("conv2d", "linear", "batch_norm", "activation", "p_activation")


@dataclass(frozen=True)
class AddSkip(Move):
    """Add s · `source` to what `target` writes, with one learned factor s for each channel that starts at zero."""

    name: ClassVar[str] = "add_skip"
    summary: ClassVar[str] = "a shortcut past one or more layers, with a learned factor that starts at zero"

    source: str
    target: str

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: reach (most weight layers to skip)."""
        reach = choices(options, "reach", (4,))[0]
        layers = frozenset(node.name for node in graph if node.op.kind in ("conv2d", "linear"))
        sources = [node.name for node in graph if node.op.kind in SOURCES]
        before: dict[str, frozenset[str]] = {}  # of each node, itself included
        for target in graph:
            before[target.name] = frozenset((target.name,)).union(*(before[i] for i in target.inputs))
            if target.op.kind not in TARGETS:
                continue
            for source in sources:
                if source in before[target.name]:
                    skipped = (before[target.name] - before[source]) & layers
                    if 1 <= len(skipped) <= reach:
                        yield cls(source, target.name)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        source, target = require(graph, self.name, self.source), require(graph, self.name, self.target)
        if not graph.leads_to(source.name, target.name) or isinstance(target.op, Output):
            raise self.refuse(
                f'node "{target.name}" is not computed from "{source.name}" inside the network',
                "choose a target that lies after the source",
            )
        shapes = graph.shape(source.name), graph.shape(target.name)
        if shapes[0] != shapes[1]:
            raise self.refuse(
                f'"{source.name}" writes {shapes[0]} and "{target.name}" {shapes[1]}',
                "choose nodes of one shape",
            )
        for reader, _ in graph.consumers(target.name):
            if isinstance(graph[reader].op, Add) and any(
                isinstance(graph[term].op, Scale) and source.name in graph[term].inputs
                for term in graph[reader].inputs
            ):
                raise self.refuse(f'"{source.name}" already skips to "{target.name}"', "choose another pair")
        scale, total = self._names(graph)
        return graph.update(
            *graph.rewired(target.name, total),
            Node(scale, Scale(), (source.name,)),
            Node(total, Add(), (target.name, scale)),
        )

    def _names(self, graph: ArchGraph) -> tuple[str, str]:
        return graph.fresh("scale"), graph.fresh("skip")

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """s = 0."""
        scale, _ = self._names(parent.graph)
        return {
            (scale, "weight"): (torch.zeros(graph.params[scale, "weight"].shape, dtype=parent.dtype), NEW)
        }
