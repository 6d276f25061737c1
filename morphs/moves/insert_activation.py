"""InsertActivation: a non-linearity that starts as the identity (paper §3.3, equation 9)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch

from morphs.choices import Choices
from morphs.graph.activations import ACTIVATIONS
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Role
from morphs.move import NEW, Context, Made, Move, Options
from morphs.moves.editing import (
    absorbed,
    chosen,
    feeds_output,
    insert_after,
    inside,
    neutral_activation,
    read_by,
    width_axis,
    writes_fixpoints,
)  # fmt: skip
from morphs.network import Network


@dataclass(frozen=True)
class InsertActivation(Move):
    """Put the P-activation (1 − a)·φ(x) + a·x of φ = `activation` after `node`; a starts at 1 and is learned.

    `prelu` is that of ReLU."""

    name: ClassVar[str] = "insert_activation"
    summary: ClassVar[str] = "a P-activation that starts as the identity"
    choices: ClassVar[Choices] = {"activation": ...}

    node: str
    activation: str = "relu"
    per_channel: bool = True  # one a for each channel, or one for the layer

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """After every convolution, linear layer, norm and sum. Options: activation."""
        for node in graph:
            if node.op.role in (Role.LAYER, Role.NORM, Role.SUM):
                for activation in chosen(options, "activation", ("relu",)):
                    yield cls(node.name, activation)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: on the network's output, and next to another non-linearity."""
        child = self.reshape(graph)
        if feeds_output(graph, self.node):
            raise self.refuse(f'node "{self.node}" feeds the output', "choose a layer inside the network")
        reader = read_by(graph, self.node, Role.ACTIVATION)
        if reader is not None:
            fact = f'node "{self.node}" has the non-linearity "{reader}" already'
            raise self.refuse(fact, "choose another layer")
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = inside(self, graph, self.node)
        act = neutral_activation(self.name, self.activation, self.per_channel, width_axis(graph, node.name))
        idempotent = ACTIVATIONS[act.fn].idempotent
        if idempotent and (
            writes_fixpoints(graph, node.name, act.fn) or absorbed(graph, node.name, act.fn)
        ):  # the gradient of a would always be zero
            raise self.refuse(
                f'node "{self.node}" is next to a {act.fn} already, so a could never learn',
                "choose another node or function",
            )
        return insert_after(graph, node.name, Node(graph.fresh("act"), act, (node.name,)))

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """a = 1."""
        key = (parent.graph.fresh("act"), "a")
        return {key: (torch.ones(graph.params[key].shape, dtype=parent.dtype), NEW)}
