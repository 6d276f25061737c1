"""AddBlock: a transformer block that starts as the identity (after LEMON, arXiv 2310.07999, and ReZero, 2003.04887)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.graph.activations import ACTIVATIONS, known_activations
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import (
    Activation,
    Add,
    Attention,
    LayerNorm,
    Linear,
    Multiply,
    Op,
    Permute,
    Reshape,
    RMSNorm,
    Role,
)  # fmt: skip
from morphs.init import fresh
from morphs.move import NEW, Context, Made, Move, Options, Origin
from morphs.moves.editing import chosen, feeds_output, inside, width_axis
from morphs.network import Key, Network
from morphs.typed import Positive

NORMS: dict[str, Op] = {"layer_norm": LayerNorm(), "rms_norm": RMSNorm()}


@dataclass(frozen=True)
class AddBlock(Move):
    """Put x + f(norm(x)) after `node`, which writes tokens (T, D): the output projection of f starts at zero.

    part: f is attention with `heads` heads, or an MLP of `hidden` features with `activation`, or "both", the one after
    the other. gated: the MLP multiplies φ of one projection by another (SwiGLU with silu, arXiv 2002.05202).
    The block has its norm before f. A block with a norm after the sum has no exact form: norm(x + 0) is not x.
    """

    name: ClassVar[str] = "add_block"
    summary: ClassVar[str] = "attention or an MLP on tokens, with a shortcut, that starts as the identity"
    choices: ClassVar[Choices] = {"part": ..., "ratio": Positive, "gated": ...}

    node: str
    part: Literal["attention", "mlp", "both"] = "mlp"
    heads: int = 1
    hidden: int = 0
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    activation: str = "gelu"
    gated: bool = False
    causal: bool = False

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """After every sum and embedding of tokens, with the heads, the norm, the activation and the mask that the
        network has elsewhere. Options: part, ratio (of the hidden features to the width), gated.
        """
        parts = chosen(options, "part", ("attention", "mlp"))
        ratios, gates = chosen(options, "ratio", (4,)), chosen(options, "gated", (False,))
        attention = next((node for node in graph if node.op.role is Role.ATTENTION), None)
        norms = [node.op.kind for node in graph if node.op.kind in NORMS]
        phi = next((node.op.phi for node in graph if node.op.phi is not None), "gelu")
        for node in graph:
            shape = graph.shape(node.name)
            if (
                len(shape) != 2
                or node.op.role not in (Role.SUM, Role.EMBEDDING)
                or width_axis(graph, node.name) != -1
            ):
                continue
            heads = graph.shape(attention.name)[0] if attention else 1
            for part, ratio, gated in product(parts, ratios, gates):
                plain = cls(node.name, part, norm="rms_norm" if norms[:1] == ["rms_norm"] else "layer_norm")
                if part != "mlp":
                    causal = attention is not None and attention.op.causal
                    plain = replace(plain, heads=heads if shape[1] % heads == 0 else 1, causal=causal)
                if part != "attention":
                    hidden = max(1, int(ratio * shape[1]))
                    plain = replace(plain, hidden=hidden, activation=phi, gated=gated)
                yield plain

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: on the network's scores."""
        child = self.reshape(graph)
        if feeds_output(graph, self.node):
            raise self.refuse(f'node "{self.node}" feeds the output', "choose a sum inside the network")
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = inside(self, graph, self.node)
        self._check(graph, node)
        nodes: list[Node] = []
        last = node.name
        for part in ("attention", "mlp") if self.part == "both" else (self.part,):
            taken = [made.name for made in nodes]
            nodes += (
                self._attention(graph, last, taken) if part == "attention" else self._mlp(graph, last, taken)
            )
            last = nodes[-1].name
        return graph.update(*graph.rewired(node.name, last), *nodes)

    def _check(self, graph: ArchGraph, node: Node) -> None:
        shape = graph.shape(node.name)
        if len(shape) != 2 or width_axis(graph, node.name) != -1:
            raise self.refuse(
                f'node "{node.name}" writes {shape}, which are not tokens', "choose a sum of tokens"
            )
        later = _normalised_after(graph, node)
        if later is not None:
            fact = (
                f'the sums of this network are normalised, by "{later}": x + 0 would be too, which is not x'
            )
            raise self.refuse(fact, "choose a network whose norms lie inside its blocks")
        if self.part != "mlp" and (self.heads < 1 or shape[1] % self.heads):
            raise self.refuse(f"{self.heads} heads don't divide {shape[1]} features", "give a divisor")
        if self.part != "attention" and self.hidden < 1:
            raise self.refuse(f"{self.hidden} hidden features are too few", "set hidden to 1 or more")
        if self.activation not in ACTIVATIONS:
            raise self.refuse(f"activation {self.activation} is unknown", known_activations())

    def _attention(self, graph: ArchGraph, source: str, taken: list[str]) -> list[Node]:
        names = _Names(graph, taken)
        tokens, width = graph.shape(self.node)
        norm, added, out = names("norm"), names("sum"), names("out")
        made = [Node(norm, NORMS[self.norm], (source,))]
        split: list[str] = []
        for stem in ("query", "key", "value"):
            linear, parts, turned = names(stem), names("heads"), names("turned")
            made += [
                Node(linear, Linear(width), (norm,)),
                Node(parts, Reshape((tokens, self.heads, width // self.heads), width=1), (linear,)),
                Node(turned, Permute((1, 0, 2)), (parts,)),
            ]
            split.append(turned)
        attention, back, merged = names("attention"), names("turned"), names("merged")
        return [
            *made,
            Node(attention, Attention(causal=self.causal), tuple(split)),
            Node(back, Permute((1, 0, 2)), (attention,)),
            Node(merged, Reshape((tokens, width)), (back,)),
            Node(out, Linear(width), (merged,)),
            Node(added, Add(), (source, out)),
        ]

    def _mlp(self, graph: ArchGraph, source: str, taken: list[str]) -> list[Node]:
        names = _Names(graph, taken)
        width = graph.shape(self.node)[1]
        norm, up, phi, added, out = (names(stem) for stem in ("norm", "fc", "act", "sum", "out"))
        made = [
            Node(norm, NORMS[self.norm], (source,)),
            Node(up, Linear(self.hidden), (norm,)),
            Node(phi, Activation(self.activation), (up,)),
        ]
        last = phi
        if self.gated:
            gate, last = names("fc"), names("product")
            made += [Node(gate, Linear(self.hidden), (norm,)), Node(last, Multiply(), (phi, gate))]
        return [*made, Node(out, Linear(width), (last,)), Node(added, Add(), (source, out))]

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Fresh weights, but zeros in the output projections, which are what the new sums read."""
        added = {node.name for node in graph if node.op.role is Role.SUM and node.name not in parent.graph}
        zero = {graph[name].inputs[1] for name in added}
        made: dict[Key, tuple[Tensor, Origin]] = {}
        for key, param in graph.params.items():
            if key not in parent.graph.params:
                fits = key[0] not in zero
                values = fresh(param, param.shape, context.generator) if fits else torch.zeros(param.shape)
                made[key] = (values.to(parent.dtype), NEW)
        return made


class _Names:
    """Names for new nodes, each used once."""

    def __init__(self, graph: ArchGraph, taken: list[str]) -> None:
        self._graph, self._taken = graph, list(taken)

    def __call__(self, stem: str) -> str:
        name = self._graph.fresh(stem, self._taken)
        self._taken.append(name)
        return name


def _normalised_after(graph: ArchGraph, node: Node) -> str | None:
    """The norm by which the stream that `node` writes is normalised after each sum, if it is (post-norm)."""
    here = [node, *(graph[reader] for reader, _ in graph.consumers(node.name))]
    for one in here:
        sums = [reader for reader, _ in graph.consumers(one.name) if graph[reader].op.role is Role.SUM]
        if one.op.role is Role.WIDTH_NORM and sums:
            return one.name
    return None
