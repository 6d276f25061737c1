"""WidenAll: every channel group wider by one factor, so that a network grows as a whole (after Net2Net, 1511.05641)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Self

from morphs.choices import Choices
from morphs.errors import IllegalMove
from morphs.graph.arch import ArchGraph
from morphs.graph.widths import channel_groups
from morphs.move import Context, Made, Move, Options, Origin
from morphs.moves.editing import chosen
from morphs.moves.widen import How, Widen, wider
from morphs.network import Key, Network
from morphs.typed import Positive


@dataclass(frozen=True)
class WidenAll(Move):
    """Widen every channel group whose width is free to about `factor` times its width, each as `Widen` does.

    The cost grows with about the square of `factor`. Groups that `Widen` refuses for this `how` keep their width.
    """

    name: ClassVar[str] = "widen_all"
    summary: ClassVar[str] = "more channels in all layers, by one factor"
    choices: ClassVar[Choices] = {"factor": Positive, "how": ...}

    factor: Positive
    how: How = "replicate"

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: factor, how (gradient, which needs data, only where asked for)."""
        choices = chosen(options, "factor", (1.5, 2)), chosen(options, "how", ("replicate", "zero"))
        return (cls(factor, how) for factor, how in product(*choices))

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        return self._steps(graph)[1]

    def _steps(self, graph: ArchGraph) -> tuple[tuple[Widen, ...], ArchGraph]:
        """The widenings, one for each group, and the graph after them. IllegalMove when there is none."""
        if self.factor <= 1:
            raise self.refuse(f"a factor of {self.factor} does not widen", "give a factor above 1")
        widths = channel_groups(graph)
        steps: list[Widen] = []
        reasons: list[IllegalMove] = []
        for number, node in widths.free().items():
            step = Widen(node, wider(widths.groups[number], self.factor, self.how), self.how)
            try:
                graph = step.reshape(graph)
            except IllegalMove as reason:
                reasons.append(reason)
            else:
                steps.append(step)
        if not steps:
            if not reasons:
                raise self.refuse("no width is free", "choose another move")
            fact, _, remedy = str(reasons[0]).removeprefix(f"{Widen.name}: ").partition("; ")
            raise self.refuse(f"no width can grow, for {fact}", remedy)
        return tuple(steps), graph

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """What the widenings make, one after the other."""
        network, origins = parent, dict[Key, Origin]()
        for step in self._steps(parent.graph)[0]:
            wide = step.reshape(network.graph)
            made = step.fill(network, wide, context)
            network = network.derived(wide, {key: tensor for key, (tensor, _) in made.items()})
            then = {key: origin.after(origins, parent.weights) for key, (_, origin) in made.items()}
            origins = {**origins, **then}
        return {key: (network.weights[key], origin) for key, origin in origins.items()}
