"""Reparameterise: two layers without a non-linearity between them become one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import OPS, Conv2d, Layer, Op, PaddingMode, Pair, Role
from morphs.move import NEW, Context, Made, Move, Options, Preserves
from morphs.moves.editing import owners, require
from morphs.network import Network
from morphs.solve.compose import bias_through, composite

How = Literal["norm", "scale", "pair"]
HOW: dict[Role, How] = {Role.NORM: "norm", Role.FACTOR: "scale", Role.LAYER: "pair"}


@dataclass(frozen=True)
class Reparameterise(Move):
    """Merge `node` into the convolution or linear layer that it alone reads; that layer keeps its name.

    how="norm": a batch norm, with its running statistics. Exact in eval; in train mode the norm is gone.
    how="scale": a learned factor.
    how="pair": a second convolution or linear layer. The composite kernel spans both; strides multiply. Between two
    padded convolutions the padding would crop what the second reads, so the second pads nothing, or only along axes
    where the first is one pixel wide, unpadded, of stride 1, and (with zeros) without bias. It costs more where the
    middle was narrow; limits refuse that.
    """

    name: ClassVar[str] = "reparameterise"
    summary: ClassVar[str] = "a batch norm, a factor or a second linear map merged into the layer before it"

    node: str
    how: How

    @property
    def preserves(self) -> Preserves:
        """Exact, but for a norm's batch statistics in train mode."""
        return Preserves.EXACT_IN_EVAL if self.how == "norm" else Preserves.EXACT

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every norm and factor, and every convolution or linear layer that reads another."""
        for node in owners(graph):
            how = HOW.get(node.op.role)
            if how is not None and (how != "pair" or graph[node.inputs[0]].op.kind == node.op.kind):
                yield cls(node.name, how)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        node, first, op = self._nodes(graph)
        rewired = graph.rewired(node.name, first)
        merged = replace(graph[first], op=self._merged(op, node.op))
        return graph.update(*rewired, merged, removed=(node.name,))

    def _nodes(self, graph: ArchGraph) -> tuple[Node, str, Layer]:
        """`node`, and name and op of the layer that it is merged into; IllegalMove where they can't be."""
        node = require(graph, self.name, self.node)
        if HOW.get(node.op.role) != self.how:
            fitting = " or ".join(op.kind for op in OPS if HOW.get(op.role) == self.how)
            raise self.refuse(
                f'node "{self.node}" has the op {node.op.kind}', f"choose a {fitting} for how={self.how}"
            )
        first = graph[node.inputs[0]]
        layer = first.op.layer
        if layer is None or (self.how == "pair" and layer.kind != node.op.kind):
            raise self.refuse(
                f'node "{self.node}" reads "{first.name}", which has the op {first.op.kind}',
                "choose one that reads a layer to merge into",
            )
        others = [reader for reader, _ in graph.consumers(first.name) if reader != node.name]
        if others:
            raise self.refuse(
                f'"{first.name}" is read by "{others[0]}" too', "choose a layer that one node reads"
            )
        rank = len(graph.shape(node.name))
        if node.op.axis % rank != layer.axis % rank:
            fact = f'node "{self.node}" works along another axis than "{first.name}"'
            raise self.refuse(fact, "choose one along the same axis")
        for one in (node, first):
            if graph.is_shared(one.name):
                raise self.refuse(
                    f'node "{one.name}" shares its parameters', "choose layers that are used once"
                )
        return node, first.name, layer

    def _merged(self, first: Layer, second: Op) -> Layer:
        """The op of both."""
        if second.norm is not None:
            if not second.norm.track_running_stats:
                raise self.refuse(f'node "{self.node}" has no running statistics', "choose a norm that has")
            return replace(first, bias=True)
        if first.convolution and second.convolution:
            return self._convolution(first.convolution, second.convolution)
        if second.layer is not None:
            return replace(second.layer, bias=first.bias or second.layer.bias)
        return first

    def _convolution(self, first: Conv2d, second: Conv2d) -> Conv2d:
        for axis, padding in enumerate(second.padding):
            plain = (first.kernel[axis], first.stride[axis], first.padding[axis]) == (1, 1, 0)
            if padding and (not plain or (first.bias and second.padding_mode == "zeros")):
                raise self.refuse(
                    f'node "{self.node}" pads what the layer before it writes, which the composite would compute there',
                    "choose a convolution without padding, or after a 1×1 without bias",
                )
        modes: list[PaddingMode] = [op.padding_mode for op in (first, second) if any(op.padding)]
        if len(set(modes)) > 1:
            raise self.refuse(
                f'node "{self.node}" and the layer before it pad in two modes', "choose another pair"
            )
        rows, columns = _axes(first, second)
        return Conv2d(
            channels=second.channels,
            kernel=(rows.kernel, columns.kernel),
            stride=(first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
            padding=(first.padding[0] + second.padding[0], first.padding[1] + second.padding[1]),
            padding_mode=modes[0] if modes else "zeros",
            dilation=(rows.dilation, columns.dilation),
            groups=gcd(first.groups, second.groups),
            bias=first.bias or second.bias,
        )

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Weight and bias of the merged layer, computed in float64."""
        node, first, op = self._nodes(parent.graph)
        one, two = (
            {n: t.double() for (o, n), t in parent.weights.items() if o == x} for x in (first, node.name)
        )
        second = node.op.layer
        made = _scaled(node.op, one, two) if second is None else _paired(op, second, one, two)
        return {(first, name): (tensor.to(parent.dtype).contiguous(), NEW) for name, tensor in made.items()}


def _scaled(op: Op, layer: dict[str, Tensor], norm: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layer's weight and bias times a factor; for a norm γ/√(σ² + ε), with its mean and β in the bias."""
    weight = layer["weight"]
    if op.norm is not None:
        factor = torch.rsqrt(norm["running_var"] + op.norm.eps) * norm.get("weight", torch.ones(()))
        bias = (layer.get("bias", torch.zeros(())) - norm["running_mean"]) * factor + norm.get(
            "bias", torch.zeros(())
        )
        made = {"bias": bias}
    else:
        factor = norm["weight"]
        made = {"bias": layer["bias"] * factor} if "bias" in layer else {}
    return {"weight": weight * factor.reshape(-1, *[1] * (weight.dim() - 1)), **made}


def _paired(first: Layer, second: Layer, one: dict[str, Tensor], two: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of `second` after `first`."""
    if first.convolution and second.convolution:
        rows, columns = _axes(first.convolution, second.convolution)
        steps = ((rows.first, rows.second), (columns.first, columns.second))
        made = {"weight": composite(one["weight"], two["weight"], (first.groups, second.groups), steps)}
    else:
        made = {"weight": two["weight"] @ one["weight"]}
    bias = two.get("bias")
    if "bias" in one:
        through = bias_through(one["bias"], two["weight"], second.groups)
        bias = through if bias is None else through + bias
    return made if bias is None else {**made, "bias": bias}


@dataclass(frozen=True)
class _Axis:
    """The composite kernel of two convolutions along one axis, and how far apart in it the taps of each are."""

    kernel: int
    dilation: int
    first: int
    second: int


def _axes(first: Conv2d, second: Conv2d) -> tuple[_Axis, _Axis]:
    rows, columns = (
        _axis((first.kernel[i], second.kernel[i]), (first.dilation[i], first.stride[i] * second.dilation[i]))
        for i in (0, 1)
    )
    return rows, columns


def _axis(kernels: Pair, steps: Pair) -> _Axis:
    """steps: pixels of the input between neighbouring taps of the first and of the second."""
    dilation = gcd(*(step for step, k in zip(steps, kernels, strict=True) if k > 1)) or 1
    reach = sum(step * (k - 1) for step, k in zip(steps, kernels, strict=True))
    return _Axis(1 + reach // dilation, dilation, max(1, steps[0] // dilation), max(1, steps[1] // dilation))
