"""SqueezeExcite: a gate for each channel, computed from the means of all (arXiv 1709.01507)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.graph.activations import ACTIVATIONS, known_activations
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Activation, AdaptiveAvgPool2d, Conv2d, Multiply, Role, Scale
from morphs.init import he_normal
from morphs.move import NEW, Context, Made, Move, Options
from morphs.moves.editing import chosen, inside, read_by, width_axis, writes_fixpoints
from morphs.network import Key, Network
from morphs.typed import Positive

SITES = (Role.NORM, Role.ACTIVATION, Role.SUM, Role.CONCAT)


@dataclass(frozen=True)
class SqueezeExcite(Move):
    """Multiply the feature map that `node` writes by s · σ(W₂ φ(W₁ · its means)), one gate for each channel.

    W₁ leads to `channels` units and starts random, W₂ and both biases start at zero and the learned factor s at 2:
    every gate is 2 · σ(0) = 1 and W₂ learns from the first step, W₁ from the second. The common form without s could
    only start at 1/2, or with saturated gates.

    φ is `activation`. Means differ little from image to image, so a ReLU's unit (the paper's φ) is easily dead on all
    of them: the default is SiLU, as in EfficientNet (arXiv 1905.11946). ReLU is taken where the map is nonnegative
    throughout; W₁ then starts nonnegative too, which keeps its units alive.
    """

    name: ClassVar[str] = "squeeze_excite"
    summary: ClassVar[str] = "a gate for each channel, computed from the means of all, that starts at one"
    choices: ClassVar[Choices] = {"ratio": Positive, "min_channels": int, "activation": ...}

    node: str
    channels: int
    activation: str = "silu"

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """After every norm, non-linearity, sum and concatenation of feature maps. Options: ratio (of the width to
        `channels`), min_channels, activation.
        """
        least = chosen(options, "min_channels", (4,))[0]
        for node in graph:
            if node.op.role in SITES and len(graph.shape(node.name)) == 3:
                for ratio in chosen(options, "ratio", (4,)):
                    for activation in chosen(options, "activation", ("silu",)):
                        yield cls(node.name, max(least, int(graph.shape(node.name)[0] // ratio)), activation)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: a map that has a gate already."""
        child = self.reshape(graph)
        reader = read_by(graph, self.node, Role.PRODUCT)
        if reader is not None:
            raise self.refuse(f'node "{self.node}" is gated by "{reader}" already', "choose another node")
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = inside(self, graph, self.node)
        shape = graph.shape(node.name)
        if len(shape) != 3 or shape[1:] == (1, 1) or width_axis(graph, node.name) != 0:
            raise self.refuse(f'node "{self.node}" writes {shape}', "choose a feature map of several pixels")
        if self.channels < 1:
            raise self.refuse(
                f'a gate of {self.channels} channels after "{self.node}" is too narrow',
                "set channels to 1 or more",
            )
        if self.activation not in ACTIVATIONS:
            raise self.refuse(f"activation {self.activation} is unknown", known_activations())
        if may_die(self.activation) and not writes_fixpoints(graph, self.node, "relu"):
            raise self.refuse(
                f'node "{self.node}" may write negative values, on which units of {self.activation} would be dead',
                "set activation to silu, or choose a node after a relu",
            )
        names = gate_names(graph)
        gate = gate_nodes(names, node.name, self.channels, shape[0], self.activation)
        return graph.update(*graph.rewired(node.name, gate[-1].name), *gate)

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """W₁ is He-normal (its absolute value for ReLU), s is 2 and all else zero."""
        made = gate_weights(graph, gate_names(parent.graph), self.activation, context.generator)
        return {key: (tensor.to(parent.dtype), NEW) for key, tensor in made.items()}


def may_die(activation: str) -> bool:
    """Whether a unit of φ may have no gradient on all data: φ is nonnegative and keeps what it makes."""
    traits = ACTIVATIONS[activation]
    return traits.nonnegative and traits.idempotent


def gate_names(graph: ArchGraph, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Fresh names of the pool, W₁, φ, W₂, σ, s and the product."""
    names = list(taken)
    for stem in ("pool", "conv", "act", "conv", "gate", "scale", "product"):
        names.append(graph.fresh(stem, names))
    return tuple(names[-7:])


def gate_nodes(
    names: tuple[str, ...], node: str, channels: int, width: int, activation: str
) -> tuple[Node, ...]:
    """The nodes of a gate of the map `node` of `width` channels; the last one writes the product."""
    pool, down, phi, up, gate, scale, product = names
    return (
        Node(pool, AdaptiveAvgPool2d(), (node,)),
        Node(down, Conv2d(channels, (1, 1)), (pool,)),
        Node(phi, Activation(activation), (down,)),
        Node(up, Conv2d(width, (1, 1)), (phi,)),
        Node(gate, Activation("sigmoid"), (up,)),
        Node(scale, Scale(per_channel=False), (gate,)),
        Node(product, Multiply(), (node, scale)),
    )


def gate_weights(
    graph: ArchGraph, names: tuple[str, ...], activation: str, generator: torch.Generator
) -> dict[Key, Tensor]:
    """The weights of a gate that starts at one: W₁ is He-normal (its absolute value for ReLU), s is 2, all else 0."""
    _, down, _, up, _, scale, _ = names
    zeros = {
        key: torch.zeros(graph.params[key].shape) for key in ((down, "bias"), (up, "weight"), (up, "bias"))
    }
    first = he_normal(graph.params[down, "weight"].shape, generator)
    return {
        **zeros,
        (down, "weight"): first.abs() if may_die(activation) else first,
        (scale, "weight"): torch.tensor(2.0),
    }
