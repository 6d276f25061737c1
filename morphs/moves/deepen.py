"""Deepen: one layer becomes two (paper §3.1–3.3)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Literal, Self

import torch

from morphs.choices import Choices
from morphs.errors import NeedsData, NoFactoring, ShapeError
from morphs.graph.activations import ACTIVATIONS, PRELU
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Activation, Conv, Conv2d, Layer, Linear, Op, Pair, Role, Sizes, Trait
from morphs.move import NEW, Context, Made, Move, Options, Preserves
from morphs.moves.editing import (
    absorbed,
    chosen,
    feeds_output,
    insert_after,
    layer_at,
    layers,
    neutral_activation,
    pair,
    require,
    width_axis,
    writes_fixpoints,
)  # fmt: skip
from morphs.moves.insert_norm import InsertNorm, calibrated
from morphs.network import Network
from morphs.solve.factor import factor, least_sure_channels
from morphs.typed import Positive

DENSE: tuple[Any, ...] = (None,)
KERNELS: tuple[Sizes, ...] = ((3,), (3, 3), (3, 3, 3))  # of signals, maps and volumes


@dataclass(frozen=True)
class Deepen(Move):
    """Insert a layer with a non-linearity of its own.

    how="identity": after `node`, a layer of `kernel` that starts as the identity (Net2DeeperNet), then φ: a linear
    layer on vectors and tokens, a convolution on signals, maps and volumes.
    how="netmorph": the 2-d convolution or linear layer `node`, G, becomes F1 (`channels` wide, `kernel`), φ, and F2
    (kernel `then`, keeping the name `node`), with G̃ = F2 ⊛ F1 (equation 6, Algorithms 1 and 2).

    φ is `activation`: one of the vocabulary, a registered one, or `prelu`. It starts as the P-activation
    (1 − a)·φ(x) + a·x with a = 1 (equation 9) — or as φ itself where the inserted layer reads values that φ leaves
    as they are, or all that reads it applies φ next, be it behind a pooling (idempotent φ, equation 8; `prelu` is
    always the P-activation).

    norm: a batch norm between the inserted layer and φ, calibrated as by `insert_norm`, which needs batches; the
    child is then exact in eval only, the inserted layer has no bias and φ starts as the P-activation.

    groups: of the inserted identity, 1 where it is None. A factoring has those of `node`: each group of channels
    is factored on its own.

    Padding: zeros cropped between two padded convolutions would make a factoring wrong at the border, so F1
    gets all the padding of the composite kernel, p + d(K1 + K2 − 1 − K)/2, and F2 none; then it is exact
    everywhere. The stride stays with F2, except along an axis where F2 has a single tap. F1's bias starts at 0, so
    that G's stays as it is. F1 and F2 have one standard deviation; `child.notes` holds it divided by G's, `spread`,
    and the relative error of their product, `residual`.
    """

    name: ClassVar[str] = "deepen"
    summary: ClassVar[str] = "insert a layer: identity, or an exact factoring of one layer into two"
    choices: ClassVar[Choices] = {
        "how": ..., "activation": ..., "norm": ..., "kernels": Sizes, "groups": int | Literal["depthwise"] | None,
        "factors": tuple[Pair, Pair], "ratio": Positive, "min_channels": int,
    }  # fmt: skip

    node: str
    how: Literal["identity", "netmorph"] = "identity"
    channels: int | None = None  # width between the factors; None for identity
    kernel: Sizes = (1, 1)  # of the inserted layer: the identity, or F1
    then: Pair = (1, 1)  # of F2; (1, 1) for identity
    activation: str = "relu"
    per_channel: bool = True  # one a for each channel, or one for the layer
    groups: int | None = None  # of an identity convolution; None for netmorph, which keeps those of `node`
    norm: bool = False

    @property
    def preserves(self) -> Preserves:
        """Exact, with a norm in eval only."""
        return Preserves.EXACT_IN_EVAL if self.norm else Preserves.EXACT

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: how, activation, norm, kernels (identity; one number for signals, two for maps, three for volumes)
        and groups (identity; "depthwise" for as many as channels), factors (pairs of kernels), ratio (of widths),
        min_channels.
        """
        for how in chosen(options, "how", ("identity", "netmorph")):
            list_sites = cls._identity_candidates if how == "identity" else cls._factor_candidates
            for activation, norm in product(
                chosen(options, "activation", ("relu",)), chosen(options, "norm", (False,))
            ):
                for move in list_sites(graph, options):
                    yield replace(move, activation=activation, norm=norm)

    @classmethod
    def _identity_candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        for node in graph:
            if node.op.role is Role.ACTIVATION:
                tokens = width_axis(graph, node.name) == -1
                width, *spatial = graph.shape(node.name)[-1:] if tokens else graph.shape(node.name)
                wanted = chosen(options, "kernels", KERNELS) if spatial else ()
                kernels = [each for each in wanted if len(each) == len(spatial)] if spatial else [(1, 1)]
                parts = chosen(options, "groups", DENSE) if spatial else DENSE
                for kernel, groups in product(kernels, parts):
                    yield cls(
                        node.name, kernel=tuple(kernel), groups=width if groups == "depthwise" else groups
                    )

    @classmethod
    def _factor_candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        for name, op in layers(graph):
            outs, ins = op.width, graph.input_shapes(name)[0][op.axis]
            pairs = (
                chosen(options, "factors", (((3, 3), (1, 1)), ((1, 1), (3, 3)), ((3, 3), (3, 3))))
                if op.convolution
                else (((1, 1), (1, 1)),)
            )
            least = chosen(options, "min_channels", (4,))[0]
            for ratio in chosen(options, "ratio", (1, 2)):
                for first, then in ((pair(one), pair(two)) for one, two in pairs):
                    covers = all(a >= k for a, k in zip(first, op.kernel, strict=True))
                    channels = max(least, int(ratio * (outs if covers else ins)))
                    yield cls(name, "netmorph", -(-channels // op.groups) * op.groups, first, then)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: factorings that exist for some weights only."""
        child = self.reshape(graph)
        if self.how == "netmorph" and self.channels is not None:
            op = layer_at(self, graph, self.node)
            sure = least_sure_channels(*self._parts(graph, op), self._first, self.then)
            if self.channels // op.groups < sure:
                raise self.refuse(
                    f'node "{self.node}" has no sure factoring into kernels {self.kernel} and {self.then} by way of '
                    f"{self.channels} channels",
                    "give more channels, or make one of the kernels as large as its own",
                )
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node = require(graph, self.name, self.node)
        neutral_activation(self.name, self.activation, self.per_channel)
        if node.op.trait is Trait.SINK:
            raise self.refuse(f'node "{self.node}" is the output', "choose the layer it reads")
        if self.norm and width_axis(graph, node.name) != 0:
            raise self.refuse(f'node "{self.node}" writes tokens, which have no batch norm', "leave out norm")
        try:
            child = self._without_norm(graph)
            return InsertNorm(self._names(graph)[0]).reshape(child) if self.norm else child
        except ShapeError as error:
            raise self.refuse(str(error), "choose another kernel") from None

    def _without_norm(self, graph: ArchGraph) -> ArchGraph:
        node = graph[self.node]
        return self._identity(graph, node) if self.how == "identity" else self._factored(graph, node)

    def _names(self, graph: ArchGraph) -> tuple[str, str]:
        """Of the inserted layer and its non-linearity."""
        tokens = width_axis(graph, self.node) == -1
        return graph.fresh("fc" if tokens or len(graph.shape(self.node)) == 1 else "conv"), graph.fresh("act")

    def _identity(self, graph: ArchGraph, node: Node) -> ArchGraph:
        axis, whole = width_axis(graph, node.name), graph.shape(node.name)
        if axis != -1 and (len(whole) > 4 or (len(whole) in (2, 4) and axis != 0)):
            raise self.refuse(
                f'node "{node.name}" writes {whole}', "choose vectors, tokens, signals, maps or volumes"
            )
        sizes = [*whole[-1:]] if axis == -1 else [*whole]
        width, spatial = sizes[0], sizes[1:]
        kernel = (1,) * len(spatial) if set(self.kernel) == {1} else self.kernel
        if self.channels is not None or self.then != (1, 1):
            raise self.refuse(
                f'an identity after "{node.name}" keeps the width',
                "leave out channels and then, or use how=netmorph",
            )
        if len(kernel) != len(spatial) or any(k % 2 == 0 for k in kernel):
            raise self.refuse(
                f'node "{node.name}" writes {whole}, of which no identity has kernel {self.kernel}',
                f"use {len(spatial)} odd numbers from 1" if spatial else "use [1, 1]",
            )
        if node.op.trait is Trait.SOURCE or feeds_output(graph, node.name):
            raise self.refuse(f'node "{node.name}" is an end of the network', "choose a node inside")
        groups = 1 if self.groups is None else self.groups
        if groups < 1 or (groups > 1 and (not spatial or width % groups)):
            raise self.refuse(
                f'node "{node.name}" writes {whole}, which has no {groups} groups',
                "choose a divisor of its channels",
            )
        op = _identity_op(width, kernel, groups, bias=not self.norm)
        name, phi = self._names(graph)
        keeps = (
            self.activation != PRELU
            and ACTIVATIONS[self.activation].idempotent
            and (
                absorbed(graph, node.name, self.activation)
                or (not self.norm and writes_fixpoints(graph, node.name, self.activation))
            )
        )
        act: Op = (
            Activation(self.activation)
            if keeps
            else neutral_activation(self.name, self.activation, self.per_channel, axis)
        )
        return insert_after(graph, node.name, Node(name, op, (node.name,)), Node(phi, act, (name,)))

    def _factored(self, graph: ArchGraph, node: Node) -> ArchGraph:
        if node.op.slides is not None and node.op.convolution is None:
            fact = f'node "{node.name}" is a {len(node.op.slides.kernel)}-d convolution, which has no factoring here'
            raise self.refuse(fact, "choose a conv2d or linear, or use how=identity")
        layer = layer_at(self, graph, node.name)
        if self.groups is not None:
            raise self.refuse(
                f'a factoring of "{node.name}" has its groups, {layer.groups}', "leave out groups"
            )
        if layer.convolution is None and (self.kernel != (1, 1) or self.then != (1, 1)):
            raise self.refuse(f'node "{node.name}" is linear', "leave out kernel and then")
        at = self._place(graph, layer.convolution) if layer.convolution else (0, 0)
        if self.channels is None or self.channels < 1:
            enough = least_sure_channels(*self._parts(graph, layer), self._first, self.then)
            raise self.refuse(
                f'the width between the factors of "{node.name}" is not given',
                f"set channels; {enough * layer.groups} are enough for any weights",
            )
        name, phi = self._names(graph)
        first: Op = Linear(self.channels, layer.bias and not self.norm)
        second: Op = layer
        if layer.convolution is not None:
            first, second = self._convolutions(layer.convolution, self.channels, at)
        act = neutral_activation(self.name, self.activation, self.per_channel, width_axis(graph, node.name))
        return graph.update(
            Node(name, first, node.inputs), Node(phi, act, (name,)), replace(node, op=second, inputs=(phi,))
        )

    @property
    def _first(self) -> Pair:
        """The kernel of F1."""
        if len(self.kernel) != 2:
            raise self.refuse(f"kernel {self.kernel} is not that of a 2-d factor", "give 2 numbers")
        return self.kernel[0], self.kernel[1]

    def _parts(self, graph: ArchGraph, op: Layer) -> tuple[int, int, Pair]:
        """Output and input channels of one group of the layer, and its kernel."""
        return op.width // op.groups, graph.input_shapes(self.node)[0][op.axis] // op.groups, op.kernel

    def _place(self, graph: ArchGraph, op: Conv2d) -> Pair:
        """Where G sits in the composite kernel: in its middle, or nearest to it where the output keeps its size."""
        sizes = graph.input_shapes(self.node)[0][1:]
        found: list[int] = []
        for axis, (size, one, two, kernel) in enumerate(
            zip(sizes, self._first, self.then, op.kernel, strict=True)
        ):
            pad, step, apart = op.padding[axis], op.stride[axis], op.dilation[axis]
            more = one + two - 1 - kernel
            room = size + 2 * pad - apart * (kernel - 1) - 1
            fits = (at for at in range(more + 1) if (room + apart * (2 * at - more)) // step == room // step)
            best = min(fits, key=lambda at: abs(2 * at - more), default=None)
            if best is None:
                raise self.refuse(
                    f"kernels {self.kernel} and {self.then} can't compose to one that holds {op.kernel}, that of node "
                    f'"{self.node}", in its middle',
                    "choose kernels whose sum less one is larger than it by an even number",
                )
            found.append(best)
        return found[0], found[1]

    def _convolutions(self, op: Conv2d, channels: int, at: Pair) -> tuple[Conv2d, Conv2d]:
        if channels % op.groups:
            raise self.refuse(
                f'node "{self.node}" has {op.groups} groups', f"set channels to a multiple of {op.groups}"
            )
        early = [s if two == 1 else 1 for s, two in zip(op.stride, self.then, strict=True)]
        first = replace(
            op,
            channels=channels,
            kernel=self._first,
            padding=(op.padding[0] + op.dilation[0] * at[0], op.padding[1] + op.dilation[1] * at[1]),
            stride=(early[0], early[1]),
            bias=op.bias and not self.norm,
        )
        second = replace(
            op,
            kernel=self.then,
            padding=(0, 0),
            padding_mode="zeros",
            stride=(op.stride[0] // early[0], op.stride[1] // early[1]),
        )
        return first, second

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Weights of the inserted layer, its norm and non-linearity and, for a factoring, F2."""
        name, phi = self._names(parent.graph)
        filters = (
            {name: self._identity_filters(graph, name, parent.dtype)}
            if self.how == "identity"
            else self._factors(parent, name, context)
        )
        made = {(node, "weight"): (weight.to(parent.dtype), NEW) for node, weight in filters.items()}
        for key, start in (((name, "bias"), 0.0), ((phi, "a"), 1.0)):
            if key in graph.params:
                made[key] = (torch.full(graph.params[key].shape, start, dtype=parent.dtype), NEW)
        if not self.norm:
            return made
        part = self._without_norm(parent.graph)
        weights = {key: made[key][0] if key in made else parent.weights[key] for key in part.params}
        try:
            return {**made, **calibrated(Network(part, weights), name, graph, context)}
        except NeedsData as error:  # which must not name the inserted layer: the parent has no such node
            raise NeedsData(f'{self.name}: the norm at node "{self.node}": {error}') from None

    def _identity_filters(self, graph: ArchGraph, name: str, dtype: torch.dtype) -> torch.Tensor:
        weight = torch.zeros(graph.params[name, "weight"].shape, dtype=dtype)
        each = torch.arange(len(weight))
        middle = tuple(k // 2 for k in weight.shape[2:])
        weight[(each, each % weight.shape[1], *middle)] = 1
        return weight

    def _factors(self, parent: Network, name: str, context: Context) -> dict[str, torch.Tensor]:
        op, weight = layer_at(self, parent.graph, self.node), parent.weights[self.node, "weight"].double()
        filters = weight if weight.dim() == 4 else weight[:, :, None, None]
        at = self._place(parent.graph, op.convolution) if op.convolution else None
        assert self.channels is not None
        try:
            found = factor(filters, self.channels, self._first, self.then, context.generator, op.groups, at)
        except NoFactoring as error:
            raise NoFactoring(f'{self.name}: node "{self.node}": {error}') from None
        context.notes.update(spread=found.spread, residual=found.residual)
        return {
            node: (part if weight.dim() == 4 else part[:, :, 0, 0]).contiguous()
            for node, part in ((name, found.first), (self.node, found.second))
        }


def _identity_op(width: int, kernel: Sizes, groups: int, bias: bool) -> Op:
    """The layer that keeps what it reads in its shape: of vectors and tokens, signals, maps, volumes."""
    padding = tuple(k // 2 for k in kernel)
    match kernel, padding:
        case (), ():
            return Linear(width, bias)
        case (high, wide), (top, left):
            return Conv2d(width, (high, wide), padding=(top, left), groups=groups, bias=bias)
        case _:
            return Conv(width, kernel, padding=padding, groups=groups, bias=bias)
