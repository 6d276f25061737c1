"""Subnet: one layer becomes a subnet of several (paper §3.5, figure 6, equations 19 and 20)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.errors import NoFactoring, ShapeError
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Add, Layer
from morphs.move import NEW, Context, Made, Move, Options
from morphs.moves.editing import chosen, layer_at, layers, neutral_activation, width_axis
from morphs.moves.templates import TEMPLATES, Paths, path_layers, read_template
from morphs.network import Network
from morphs.solve.sequence import surely_holds
from morphs.solve.split import factor_sum, fitting


@dataclass(frozen=True)
class Subnet(Move):
    """Replace the convolution or linear layer `node`, G, by a sum of paths, each a sequence of layers.

    template: the name of one (mlpconv, inception, bottleneck, residual, sequential, stacked), or a text in the
    paper's notation, such as "(5:128)(3:128)(1:32)" or "() + (K:C)(K:C)"; see `morphs.moves.templates`.

    G is split into a random sum (equation 20) of as many parts as there are paths, and each path is factored on its
    own (equation 19). Paths too narrow for any part of G start with random filters, which the other paths make up
    for. Between the layers of a path are P-activations of φ = `activation`, with a = 1. The last layer keeps the name
    `node`, and its bias.

    Padding: all that a path's composite kernel needs, p + d(ΣK − (L − 1) − K)/2, goes to the path's first layer, so
    that borders are exact too. The stride goes to the last layer that is larger than 1×1.
    """

    name: ClassVar[str] = "subnet"
    summary: ClassVar[str] = "one layer becomes a sum of sequences of layers, by a template or one's own text"
    choices: ClassVar[Choices] = {"template": ..., "activation": ...}

    node: str
    template: str = "bottleneck"
    activation: str = "relu"
    per_channel: bool = True  # one a for each channel, or one for the layer

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Every convolution and linear layer. Options: template (names or texts), activation."""
        for name, _ in layers(graph):
            for template in chosen(options, "template", tuple(TEMPLATES)):
                for activation in chosen(options, "activation", ("relu",)):
                    yield cls(name, template, activation)

    def offer(self, graph: ArchGraph) -> ArchGraph:
        """Not listed: subnets that can be factored for some weights only."""
        child = self.reshape(graph)
        op = layer_at(self, graph, self.node)
        kernel, groups = op.kernel, op.groups
        outs, ins = op.width // groups, graph.input_shapes(self.node)[0][op.axis] // groups
        paths = self._per_group(op)
        if not any(path and surely_holds(outs, ins, kernel, path) for path in paths):
            enough = min(outs, ins * prod(kernel)) * groups
            raise self.refuse(
                f'node "{self.node}" has no sure factoring into template "{self.template}"',
                f"give one path a kernel that holds the whole of {kernel}, and layers of {enough} channels or more",
            )
        return child

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        op, node = layer_at(self, graph, self.node), graph[self.node]
        neutral_activation(self.name, self.activation, self.per_channel)
        paths = self._paths(op)
        if not all(paths) and graph.shape(node.name) != graph.input_shapes(node.name)[0]:
            raise self.refuse(
                f'node "{node.name}" reads {graph.input_shapes(node.name)[0]} and writes {graph.shape(node.name)}, '
                "so no path can be the identity",
                "put (1) in place of ()",
            )
        try:
            return self._rebuilt(graph, node, [path_layers(op, path) for path in paths])
        except ShapeError as error:
            raise self.refuse(str(error), "choose another template") from None
        except ValueError as error:
            raise self.refuse(f'node "{node.name}": {error}', "choose another template") from None

    def _paths(self, op: Layer) -> Paths:
        """The template's paths, checked against what they replace."""
        try:
            paths = read_template(self.template, op.kernel, op.width, op.groups)
            for path in paths:
                fitting([k for k, _ in path], op.kernel)
        except ValueError as error:
            raise self.refuse(str(error), f"name one of {', '.join(TEMPLATES)}, or fix the text") from None
        except NoFactoring as error:
            raise self.refuse(str(error), "choose another template") from None
        if len(paths) == len(paths[0]) == 1 and paths[0][0][0] == op.kernel:
            raise self.refuse(
                f'node "{self.node}" is template "{self.template}" already', "choose another template"
            )
        return paths

    def _rebuilt(self, graph: ArchGraph, node: Node, paths: list[list[Layer]]) -> ArchGraph:
        changed: list[Node] = []
        ends: list[str] = []
        for path, names in zip(paths, self._names(graph, [len(path) for path in paths]), strict=True):
            read = node.inputs[0]
            for op, (name, act) in zip(path, names, strict=True):
                last_of_others = not act and name != node.name  # one bias is enough
                changed.append(Node(name, replace(op, bias=False) if last_of_others else op, (read,)))
                if act:
                    axis = width_axis(graph, self.node)
                    phi = neutral_activation(self.name, self.activation, self.per_channel, axis)
                    changed.append(Node(act, phi, (name,)))
                read = act or name
            ends.append(read)
        if len(paths) > 1:
            total = graph.fresh("sum")
            changed += [*graph.rewired(node.name, total), Node(total, Add(), tuple(ends))]
        return graph.update(*changed)

    def _names(self, graph: ArchGraph, lengths: list[int]) -> list[list[tuple[str, str]]]:
        """For each layer of each path its name and that of the activation after it, if any."""
        stem = "conv" if graph[self.node].op.convolution else "fc"
        last = max(place for place, length in enumerate(lengths) if length)
        taken: set[str] = set()

        def fresh(stem: str) -> str:
            name = graph.fresh(stem, taken)
            taken.add(name)
            return name

        named: list[list[tuple[str, str]]] = []
        for place, length in enumerate(lengths):
            path = [(fresh(stem), fresh("act")) for _ in range(length - 1)]
            if length:
                path.append((self.node if place == last else fresh(stem), ""))
            named.append(path)
        return named

    def _per_group(self, op: Layer) -> Paths:
        """The paths of one of the convolution's groups."""
        return tuple(
            tuple((kernel, channels // op.groups) for kernel, channels in path) for path in self._paths(op)
        )

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """The filters of every path, each group of the convolution by itself; biases 0, a = 1."""
        op = layer_at(self, parent.graph, self.node)
        weight = parent.weights[self.node, "weight"].double()
        filters = weight if weight.dim() == 4 else weight[:, :, None, None]
        paths = self._per_group(op)
        try:
            solved = [
                [tensor for path in factor_sum(part, paths, context.generator) for tensor in path]
                for part in filters.chunk(op.groups)
            ]
        except NoFactoring as error:
            raise NoFactoring(f'{self.name}: node "{self.node}": {error}') from None
        joined = iter([torch.cat(parts) for parts in zip(*solved, strict=True)])
        made: dict[tuple[str, str], Tensor] = {}
        for name, act in (
            pair for path in self._names(parent.graph, [len(p) for p in paths]) for pair in path
        ):
            made[name, "weight"] = next(joined).reshape(graph.params[name, "weight"].shape)
            if (name, "bias") in graph.params and name != self.node:
                made[name, "bias"] = torch.zeros(graph.params[name, "bias"].shape)
            if act:
                made[act, "a"] = torch.ones(graph.params[act, "a"].shape)
        return {key: (tensor.to(parent.dtype).contiguous(), NEW) for key, tensor in made.items()}
