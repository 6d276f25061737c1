"""Deepen: one layer becomes two (paper §3.1–3.3)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal, Self

import torch

from morphs.errors import NoFactoring, ShapeError
from morphs.graph.activations import ACTIVATIONS, PRELU
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Activation, Conv2d, Input, Linear, Op, Output, Pair
from morphs.move import NEW, Context, Made, Move, Options, Origin
from morphs.moves.editing import (
    choices,
    feeds_output,
    insert_after,
    neutral_activation,
    owners,
    pair,
    require,
    writes_fixpoints,
)
from morphs.network import Network
from morphs.solve.deconv import factor


@dataclass(frozen=True)
class Deepen(Move):
    """Insert a layer with a non-linearity of its own.

    how="identity": after `node`, a layer of `kernel` that starts as the identity (Net2DeeperNet), then φ.
    how="netmorph": the convolution or linear layer `node`, G, becomes F1 (`channels` wide, `kernel`), φ, and F2
    (kernel `then`, keeping the name `node`), with G̃ = F2 ⊛ F1 (equation 6, Algorithms 1 and 2).

    φ is `activation`: one of the vocabulary, a registered one, or `prelu`. It starts as the P-activation
    (1 − a)·φ(x) + a·x with a = 1 (equation 9) — or as φ itself where the inserted layer reads values that φ leaves
    as they are (idempotent φ, equation 8; `prelu` is always the P-activation).

    Padding: zeros cropped between two padded convolutions would make a factoring wrong at the border, so F1
    gets all the padding of the composite kernel, p + d(K1 + K2 − 1 − K)/2, and F2 none; then it is exact
    everywhere. The stride stays with F2, unless F2 is 1×1.
    """

    name: ClassVar[str] = "deepen"
    summary: ClassVar[str] = "insert a layer: identity, or an exact factoring of one layer into two"

    node: str
    how: Literal["identity", "netmorph"] = "identity"
    channels: int | None = None  # width between the factors; None for identity
    kernel: Pair = (1, 1)  # of the inserted layer: the identity, or F1
    then: Pair = (1, 1)  # of F2; (1, 1) for identity
    activation: str = "relu"
    per_channel: bool = True  # one a for each channel, or one for the layer

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: how, activation, kernels (identity), factors (pairs of kernels), ratio (of widths), min_channels."""
        for how in choices(options, "how", ("identity", "netmorph")):
            for activation in choices(options, "activation", ("relu",)):
                if how == "identity":
                    yield from cls._identity_candidates(graph, options, activation)
                else:
                    yield from cls._factor_candidates(graph, options, activation)

    @classmethod
    def _identity_candidates(cls, graph: ArchGraph, options: Options, activation: str) -> Iterator[Self]:
        for node in graph:
            if node.op.kind in ("activation", "p_activation"):
                spatial = len(graph.shape(node.name)) == 3
                for kernel in choices(options, "kernels", ((3, 3),)) if spatial else ((1, 1),):
                    yield cls(node.name, "identity", None, pair(kernel), (1, 1), activation)

    @classmethod
    def _factor_candidates(cls, graph: ArchGraph, options: Options, activation: str) -> Iterator[Self]:
        for node in owners(graph, "conv2d", "linear"):
            outs, ins = graph.shape(node.name)[0], graph.input_shapes(node.name)[0][0]
            pairs = (
                choices(options, "factors", (((3, 3), (1, 1)), ((1, 1), (3, 3)), ((3, 3), (3, 3))))
                if isinstance(node.op, Conv2d)
                else (((1, 1), (1, 1)),)
            )
            least = choices(options, "min_channels", (4,))[0]
            for ratio in choices(options, "ratio", (1, 2)):
                for first, then in ((pair(one), pair(two)) for one, two in pairs):
                    channels = max(least, int(ratio * (outs if _covers(first, node.op) else ins)))
                    yield cls(node.name, "netmorph", channels, first, then, activation)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: factorings that exist for some weights only."""
        child = self.reshape(graph)
        if self.how == "netmorph" and self.channels is not None:
            op, ins = graph[self.node].op, graph.input_shapes(self.node)[0][0]
            if not _surely_factors(op, ins, self.channels, self.kernel, self.then):
                raise self.refuse(
                    f'node "{self.node}" has no sure factoring into kernels {self.kernel} and {self.then} by way of '
                    f"{self.channels} channels",
                    "give more channels, or a kernel that holds the whole of its",
                )
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = require(graph, self.name, self.node)
        neutral_activation(self.name, self.activation, self.per_channel)
        if isinstance(node.op, Output):
            raise self.refuse(f'node "{self.node}" is the output', "choose the layer it reads")
        try:
            return self._identity(graph, node) if self.how == "identity" else self._factored(graph, node)
        except ShapeError as error:
            raise self.refuse(str(error), "choose another kernel") from None

    def _names(self, graph: ArchGraph, kind: str) -> tuple[str, str]:
        return graph.fresh({"conv2d": "conv", "linear": "fc"}[kind]), graph.fresh("act")

    def _identity(self, graph: ArchGraph, node: Node) -> ArchGraph:
        shape = graph.shape(node.name)
        if self.channels is not None or self.then != (1, 1):
            raise self.refuse(
                "an identity keeps the width", "leave out channels and then, or use how=netmorph"
            )
        if any(k % 2 == 0 for k in self.kernel) or (len(shape) == 1 and self.kernel != (1, 1)):
            raise self.refuse(
                f"no identity has kernel {self.kernel} here", "use odd kernels, and 1 on vectors"
            )
        if isinstance(node.op, Input) or feeds_output(graph, node.name):
            raise self.refuse(f'node "{node.name}" is an end of the network', "choose a node inside")
        op: Op = (
            Linear(shape[0])
            if len(shape) == 1
            else Conv2d(shape[0], self.kernel, padding=(self.kernel[0] // 2, self.kernel[1] // 2))
        )
        name, phi = self._names(graph, op.kind)
        keeps = (
            self.activation != PRELU
            and ACTIVATIONS[self.activation].idempotent
            and writes_fixpoints(graph, node.name, self.activation)
        )
        act: Op = (
            Activation(self.activation)
            if keeps
            else neutral_activation(self.name, self.activation, self.per_channel)
        )
        return insert_after(graph, node.name, Node(name, op, (node.name,)), Node(phi, act, (name,)))

    def _factored(self, graph: ArchGraph, node: Node) -> ArchGraph:
        op = node.op
        if not isinstance(op, (Conv2d, Linear)):
            raise self.refuse(f'node "{node.name}" has the op {op.kind}', "choose a conv2d or linear")
        if graph.is_shared(node.name):
            raise self.refuse(f'node "{node.name}" shares its parameters', "choose a layer that is used once")
        if self.channels is None or self.channels < 1:
            raise self.refuse("the width between the factors is not given", "set channels to 1 or more")
        name, phi = self._names(graph, op.kind)
        if isinstance(op, Linear):
            if self.kernel != (1, 1) or self.then != (1, 1):
                raise self.refuse(f'node "{node.name}" is linear', "leave out kernel and then")
            first: Op = Linear(self.channels, op.bias)
            second: Op = op
        else:
            first, second = self._convolutions(op, self.channels)
        act = neutral_activation(self.name, self.activation, self.per_channel)
        return graph.update(
            Node(name, first, node.inputs), Node(phi, act, (name,)), replace(node, op=second, inputs=(phi,))
        )

    def _convolutions(self, op: Conv2d, channels: int) -> tuple[Conv2d, Conv2d]:
        if op.groups != 1:
            raise self.refuse(
                f'node "{self.node}" has {op.groups} groups', "choose a convolution without groups"
            )
        more = tuple(a + b - 1 - k for a, b, k in zip(self.kernel, self.then, op.kernel, strict=True))
        if min(more) < 0 or any(m % 2 for m in more):
            raise self.refuse(
                f"kernels {self.kernel} and {self.then} can't compose to one that holds {op.kernel} in its middle",
                "choose kernels whose sum less one is larger than it by an even number",
            )
        padding = tuple(p + d * m // 2 for p, d, m in zip(op.padding, op.dilation, more, strict=True))
        stride_first = self.then == (1, 1)
        first = replace(
            op,
            channels=channels,
            kernel=self.kernel,
            padding=padding,
            stride=op.stride if stride_first else (1, 1),
        )
        second = replace(
            op,
            kernel=self.then,
            padding=(0, 0),
            padding_mode="zeros",
            stride=(1, 1) if stride_first else op.stride,
        )
        return first, second

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Weights of the inserted layer, its non-linearity and, for a factoring, F2."""
        kind = "linear" if isinstance(graph[self.node].op, Linear) else "conv2d"
        if self.how == "identity":
            kind = "linear" if len(parent.graph.shape(self.node)) == 1 else "conv2d"
        name, phi = self._names(parent.graph, kind)
        made = (
            self._fill_identity(graph, name)
            if self.how == "identity"
            else self._fill_factors(parent, name, context)
        )
        made = {key: (tensor.to(parent.dtype), origin) for key, (tensor, origin) in made.items()}
        bias = graph.params.get((name, "bias"))
        if bias is not None:
            made[name, "bias"] = (torch.zeros(bias.shape, dtype=parent.dtype), NEW)
        a = graph.params.get((phi, "a"))
        if a is not None:
            made[phi, "a"] = (torch.ones(a.shape, dtype=parent.dtype), NEW)
        return made

    def _fill_identity(
        self, graph: ArchGraph, name: str
    ) -> dict[tuple[str, str], tuple[torch.Tensor, Origin]]:
        weight = torch.zeros(graph.params[name, "weight"].shape, dtype=torch.float64)
        each = torch.arange(len(weight))
        middle = tuple(k // 2 for k in weight.shape[2:])
        weight[(each, each, *middle)] = 1
        return {(name, "weight"): (weight, NEW)}

    def _fill_factors(
        self, parent: Network, name: str, context: Context
    ) -> dict[tuple[str, str], tuple[torch.Tensor, Origin]]:
        weight = parent.weights[self.node, "weight"].double()
        filters = weight if weight.dim() == 4 else weight[:, :, None, None]
        assert self.channels is not None
        try:
            found = factor(filters, self.channels, self.kernel, self.then, context.generator)
        except NoFactoring as error:
            raise NoFactoring(f'{self.name}: node "{self.node}": {error}') from None
        first, second = (f if weight.dim() == 4 else f[:, :, 0, 0] for f in (found.first, found.second))
        return {
            (name, "weight"): (first.contiguous(), NEW),
            (self.node, "weight"): (second.contiguous(), NEW),
        }


def _covers(kernel: Pair, op: Op) -> bool:
    """Whether a factor of this kernel can hold the whole kernel of `op`."""
    return not isinstance(op, Conv2d) or all(a >= b for a, b in zip(kernel, op.kernel, strict=True))


def _surely_factors(op: Op, ins: int, channels: int, first: Pair, then: Pair) -> bool:
    """Whether an exact factoring exists for any weights: one factor holds G's kernel and `channels` G's rank."""
    outs = op.channels if isinstance(op, Conv2d) else op.features if isinstance(op, Linear) else 0
    taps = prod(op.kernel) if isinstance(op, Conv2d) else 1
    return (_covers(first, op) and channels >= min(outs, ins * taps)) or (
        _covers(then, op) and channels >= min(ins, outs * taps)
    )
