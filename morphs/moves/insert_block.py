"""InsertBlock: a residual block at full scale (ResNet, arXiv 1512.03385; MobileNet v2, 1801.04381)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.errors import ShapeError
from morphs.graph.activations import ACTIVATIONS, known_activations
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Activation, Add, BatchNorm, Pair, Role, Shape
from morphs.init import fresh
from morphs.move import NEW, Context, Made, Move, Options, Preserves
from morphs.moves.blocks import EXPAND, Kind, Plan, layers_of, stride_between
from morphs.moves.editing import chosen, inside, pair, read_by, writes_fixpoints
from morphs.moves.spread import HE, gain_near, normal
from morphs.moves.squeeze_excite import gate_nodes, gate_weights
from morphs.network import Key, Network
from morphs.typed import Positive

SITES = (Role.ACTIVATION, Role.POOL, Role.SUM)
MOST = 2**31  # channels


@dataclass(frozen=True)
class InsertBlock(Move):
    """Put a residual block after `node`, x: its readers read φ(x + f(x)), or x + f(x) where φ would change x.

    φ is `activation`; it closes the block where it is idempotent, such as relu, and leaves all that `node` writes as
    it is. Where `node` is a convolution or linear layer, the block is put beside it: what it writes, after its norm if
    it has one, becomes y + f(x), where x is what it reads. So a block with a stride starts a stage, the layer being
    its projection.

    kind, with C the channels that f writes (for inverted: reads), m = `expand` · C, and a batch norm after every layer:
    single  one layer of `kernel`, without φ; of pairs `kernel` to m channels, φ, 1×1, and expand is 1.
    basic  `kernel` to m channels, φ, `kernel`; expand is 1 where it is None.
    bottleneck  1×1 to m channels, φ, `kernel`, φ, 1×1; expand is 1/4.
    inverted  1×1 to m channels, φ, depthwise `kernel`, φ, a gate as of `squeeze_excite`, 1×1; expand is 4.

    how="zero": the last norm's γ starts at 0. Only γ and β get a gradient from the first step, all else from the
    second.
    how="paired": the units before the last layer come in pairs of equal weights, V and V, whose outgoing weights are
    Z and −Z. They cancel at full scale, and part at the first step, since their gradients have opposite signs. The
    last layer has a bias and no norm, which would blow up the rounding errors of a sum that is zero.
    how="scaled": the last norm's γ starts at `scale`. The child computes something else, and its drift says how much.

    Weights have the gain of the trained layer nearest to `node`; Z, which no norm follows, is He-normal.
    """

    name: ClassVar[str] = "insert_block"
    summary: ClassVar[str] = "a residual block: zero at first, or pairs that cancel, or at full scale"
    choices: ClassVar[Choices] = {
        "kind": ..., "how": ..., "expand": Positive | None, "kernels": Pair, "activation": ..., "scale": Positive,
    }  # fmt: skip

    node: str
    kind: Kind = "basic"
    how: Literal["paired", "zero", "scaled"] = "zero"
    expand: float | None = None
    kernel: Pair = (3, 3)
    activation: str = "relu"
    scale: float = 1.0  # γ of how=scaled

    @property
    def preserves(self) -> Preserves:
        """Exact, but for how=scaled."""
        return Preserves.APPROXIMATE if self.how == "scaled" else Preserves.EXACT

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """After every non-linearity, pooling and sum, and beside the layers that change the shape. Options: kind, how,
        expand, kernels, activation (by default that of `node` where it has one, else relu), scale (of how=scaled).
        """
        menu = tuple(
            product(
                chosen(options, "kind", ("basic",)),
                chosen(options, "how", ("zero",)),
                chosen(options, "expand", (None,)),
                chosen(options, "kernels", ((3, 3),)),
            )
        )
        scales = chosen(options, "scale", (1.0,))
        for node in graph:
            layer = node.op.layer is not None
            if layer and graph.shape(node.name) == graph.input_shapes(node.name)[0]:
                continue
            if not layer and node.op.role not in SITES:
                continue
            flat = len(graph.shape(node.name)) == 1
            for activation in chosen(options, "activation", (_phi_at(graph, node),)):
                for kind, how, expand, kernel in menu:
                    for scale in scales if how == "scaled" else (1.0,):
                        size = (1, 1) if flat else pair(kernel)
                        yield cls(node.name, kind, how, expand, size, activation, scale)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: a sum that an activation follows, a block beside a layer that feeds the output, a kernel on a
        single pixel.
        """
        child = self.reshape(graph)
        reader = read_by(graph, self.node, Role.ACTIVATION)
        if graph[self.node].op.role is Role.SUM and reader is not None:
            raise self.refuse(f'node "{self.node}" is read by "{reader}"', f'choose "{reader}"')
        if any(graph[r].op.is_end for r, _ in graph.consumers(self._site(graph)[1])):
            raise self.refuse(f'node "{self.node}" feeds the output', "choose a node inside the network")
        if self.kernel != (1, 1) and graph.shape(self.node)[1:] == (1, 1):
            raise self.refuse(f'node "{self.node}" writes a single pixel', "set kernel to [1, 1]")
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = inside(self, graph, self.node)
        plan = self._plan(graph)
        source, target = self._site(graph)
        closing = node.op.layer is None and self._closes(graph)
        total = graph.fresh("sum")
        chain, end = self._chain(graph, plan, source)
        chain.append(Node(total, Add(), (target, end)))
        if closing:
            chain.append(Node(plan.close, Activation(self.activation), (total,)))
        try:
            return graph.update(*graph.rewired(target, chain[-1].name), *chain)
        except ShapeError as error:
            raise self.refuse(str(error), "choose another kernel") from None

    def _closes(self, graph: ArchGraph) -> bool:
        """Whether φ leaves what `node` writes as it is, so that it may follow the sum."""
        return ACTIVATIONS[self.activation].idempotent and writes_fixpoints(graph, self.node, self.activation)

    def _site(self, graph: ArchGraph) -> tuple[str, str]:
        """The node that the block reads, and the one that it is added to."""
        node = graph[self.node]
        if node.op.layer is None:
            return node.name, node.name
        readers = graph.consumers(node.name)
        normed = len(readers) == 1 and graph[readers[0][0]].op.norm is not None
        return node.inputs[0], readers[0][0] if normed else node.name

    def _plan(self, graph: ArchGraph) -> Plan:
        """Layers and names of the block. IllegalMove where there is none from the one shape to the other."""
        source, target = (graph.shape(name) for name in self._site(graph))
        self._check(source, target)
        stride = (1, 1) if len(source) == 1 else stride_between(source, target)
        if stride is None:
            raise self.refuse(
                f'no strided block brings {source} to {target}, which "{self.node}" writes',
                "choose another node",
            )
        inner = self._inner(source, target)
        *before, last = layers_of(self.kind, source, target[0], inner, self.kernel, stride)
        layers = (*before, replace(last, bias=self.how == "paired"))
        return Plan.named(graph, layers, gated=self.kind == "inverted", normed=self.how != "paired")

    @property
    def _is_one_layer(self) -> bool:
        return self.kind == "single" and self.how != "paired"

    def _check(self, source: Shape, target: Shape) -> None:
        if self.activation not in ACTIVATIONS:
            raise self.refuse(f"activation {self.activation} is unknown", known_activations())
        if self.how != "scaled" and self.scale != 1:
            raise self.refuse(f"a block of how={self.how} has no scale", "leave out scale, or use how=scaled")
        if self.scale <= 0 or (self.expand is not None and self.expand <= 0):
            name, value = ("scale", self.scale) if self.scale <= 0 else ("expand", self.expand)
            raise self.refuse(
                f'a block after "{self.node}" can\'t have {name} {value}', "give a positive number"
            )
        if self._is_one_layer and self.expand is not None:
            raise self.refuse("a block of one layer has no width of its own", "leave out expand")
        if len(source) not in (1, 3) or len(source) != len(target):
            raise self.refuse(
                f'node "{self.node}" takes {source} to {target}', "choose a feature map or a vector"
            )
        if any(k < 1 or k % 2 == 0 for k in self.kernel) or (len(source) == 1 and self.kernel != (1, 1)):
            raise self.refuse(
                f'no block of kernel {self.kernel} keeps the size of {target}, which "{self.node}" writes',
                "use odd kernels, and 1 on vectors",
            )
        if self.kind == "inverted" and (len(source) == 1 or target[1:] == (1, 1)):
            raise self.refuse(
                f'node "{self.node}" writes {target}, which has no pixels to gate',
                "choose a feature map of several pixels, or another kind",
            )

    def _inner(self, source: Shape, target: Shape) -> int:
        """Channels between the layers, an even number where they are pairs; 0 of one layer."""
        if self._is_one_layer:
            return 0
        width = source[0] if self.kind == "inverted" else target[0]
        wanted = (self.expand or EXPAND[self.kind]) * width
        if wanted > MOST:
            raise self.refuse(f"{wanted:.0e} channels within a block are too many", "choose a smaller expand")
        channels = max(1, round(wanted))
        return channels + channels % 2 if self.how == "paired" else channels

    def _chain(self, graph: ArchGraph, plan: Plan, read: str) -> tuple[list[Node], str]:
        """The nodes of f, which reads `read`, and the name of the last."""
        chain: list[Node] = []
        for stage, (op, (name, norm, act)) in enumerate(zip(plan.layers, plan.names, strict=True)):
            last = stage == len(plan.layers) - 1
            if last and plan.gate:
                squeezed = max(4, graph.shape(self._site(graph)[0])[0] // 4)
                chain += gate_nodes(plan.gate, read, squeezed, plan.layers[-2].width, "silu")
                read = plan.gate[-1]
            chain.append(Node(name, op, (read,)))
            if norm:
                chain.append(Node(norm, BatchNorm(), (name,)))
            if act:
                chain.append(Node(act, Activation(self.activation), (norm,)))
            read = act or norm or name
        return chain, read

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Random layers, neutral norms, and what the last layer or norm starts at."""
        plan = self._plan(parent.graph)
        made = self._drawn(parent, graph, plan, context.generator)
        if plan.gate:
            made |= gate_weights(graph, plan.gate, "silu", context.generator)
        last = plan.names[-1][1]
        if last:
            gamma = 0.0 if self.how == "zero" else self.scale
            made[last, "weight"] = torch.full(graph.params[last, "weight"].shape, gamma, dtype=torch.float64)
        for key, param in graph.params.items():
            if key not in made and key not in parent.weights:
                made[key] = fresh(param, param.shape, context.generator)
        counts = {key for key, param in graph.params.items() if param.whole}
        return {key: (t.long() if key in counts else t.to(parent.dtype), NEW) for key, t in made.items()}

    def _drawn(
        self, parent: Network, graph: ArchGraph, plan: Plan, generator: torch.Generator
    ) -> dict[Key, Tensor]:
        """The layers' weights; of pairs one half is drawn."""
        gain = gain_near(parent, self.node)
        twins = plan.twins if self.how == "paired" else frozenset[int]()
        made: dict[Key, Tensor] = {}
        for stage, (name, _, _) in enumerate(plan.names):
            shape = graph.params[name, "weight"].shape
            if stage in twins:
                half = normal((shape[0] // 2, *shape[1:]), gain, generator)
                made[name, "weight"] = torch.cat([half, half])
            elif self.how == "paired" and stage == len(plan.names) - 1:
                whole = normal(shape, HE, generator)
                half = whole[:, : shape[1] // 2]
                made[name, "weight"] = torch.cat([half, -half], 1)
            else:
                made[name, "weight"] = normal(shape, gain, generator)
        return made


def _phi_at(graph: ArchGraph, node: Node) -> str:
    """The activation of `node`; of a sum or pooling that of what it reads, relu where there is none."""
    return node.op.phi or next((graph[i].op.phi for i in node.inputs if graph[i].op.phi), None) or "relu"
