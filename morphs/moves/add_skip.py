"""AddSkip: a shortcut that starts neutral (NASH, arXiv 1711.04528, network morphism types II and III)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Add, Concat, Conv2d, Lerp, Linear, Op, Role, Scale, Shape, Trait
from morphs.init import fresh
from morphs.move import NEW, Context, Made, Move, Options, Origin
from morphs.moves.appended import appended
from morphs.moves.editing import chosen, require, width_axis, writes_fixpoints
from morphs.network import Key, Network

SOURCES = (Role.ACTIVATION, Role.SUM, Role.POOL, Role.CONCAT)
TARGETS = (Role.LAYER, Role.NORM, Role.ACTIVATION)
JOINS = (Role.SUM, Role.BLEND, Role.CONCAT)


@dataclass(frozen=True)
class AddSkip(Move):
    """Let the readers of `target` read `source` too.

    how="add": target + s · source, with one learned s for each channel that starts at 0.
    how="convex": (1 − s) · target + s · source, s learned within [0, 1], from 0.
    how="concat": the channels of source after those of target; the readers' weights for them start at 0.

    project=true passes `source` through a 1×1 convolution (strided, where target's map is smaller; a linear layer on
    vectors) that brings it to target's shape. With "add" it starts at 0 and takes the place of s; else it is random.
    Of two factors in a row only one starts at 0, so that both learn.
    """

    name: ClassVar[str] = "add_skip"
    summary: ClassVar[str] = "a shortcut past one or more layers that starts without effect"
    choices: ClassVar[Choices] = {"reach": int, "how": ..., "project": ...}

    source: str
    target: str
    how: Literal["add", "convex", "concat"] = "add"
    project: bool = False

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: reach (most weight layers to skip), how, project."""
        reach = chosen(options, "reach", (4,))[0]
        ways = tuple(product(chosen(options, "how", ("add",)), chosen(options, "project", (False,))))
        bit = {node.name: 1 << place for place, node in enumerate(graph)}
        layers = sum(bit[node.name] for node in graph if node.op.layer is not None)
        sources = [node.name for node in graph if node.op.role in SOURCES]
        before: dict[
            str, int
        ] = {}  # the set of each node's ancestors, itself included, as the bits of a number
        for target in graph:
            before[target.name] = bit[target.name]
            for name in target.inputs:
                before[target.name] |= before[name]
            if target.op.role not in TARGETS:
                continue
            for source in sources:
                if before[target.name] & bit[source]:
                    skipped = before[target.name] & ~before[source] & layers
                    if 1 <= skipped.bit_count() <= reach:
                        for how, project in ways:
                            yield cls(source, target.name, how, bool(project))

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        source, target = require(graph, self.name, self.source), require(graph, self.name, self.target)
        if not graph.leads_to(source.name, target.name) or target.op.trait is Trait.SINK:
            raise self.refuse(
                f'node "{target.name}" is not computed from "{source.name}" inside the network',
                "choose a target that lies after the source",
            )
        bridge = self._bridge(graph)
        for reader, _ in graph.consumers(target.name):
            if graph[reader].op.role in JOINS and self._skips(graph, graph[reader]):
                raise self.refuse(f'"{source.name}" already skips to "{target.name}"', "choose another pair")
        if self.how == "concat":
            self._appended(graph)
        name, joined = self._names(graph)
        read = source.name if bridge is None else name
        axis = width_axis(graph, target.name)
        join: Op = {"add": Add(), "convex": Lerp(axis=axis), "concat": Concat()}[self.how]
        between = () if bridge is None else (Node(name, bridge, (source.name,)),)
        return graph.update(
            *graph.rewired(target.name, joined), *between, Node(joined, join, (target.name, read))
        )

    def _bridge(self, graph: ArchGraph) -> Op | None:
        """What `source` passes through on its way, if anything."""
        source, target = graph.shape(self.source), graph.shape(self.target)
        if self.project:
            return self._projection(graph, source, target)
        if source != target and (self.how != "concat" or source[1:] != target[1:]):
            instead = ", or project=true" if len(source) == len(target) else ""
            raise self.refuse(
                f'"{self.source}" writes {source} and "{self.target}" {target}',
                f"choose nodes of one shape{instead}",
            )
        return Scale(axis=width_axis(graph, self.target)) if self.how == "add" else None

    def _projection(self, graph: ArchGraph, source: Shape, target: Shape) -> Op:
        axes = {width_axis(graph, self.source), width_axis(graph, self.target)}
        if (len(source) == 1 or axes == {-1}) and source[:-1] == target[:-1]:
            return Linear(target[-1], bias=False)
        if len(source) == len(target) == 3 and axes == {0}:
            strides = [_stride(size, wanted) for size, wanted in zip(source[1:], target[1:], strict=True)]
            if strides[0] and strides[1]:
                return Conv2d(target[0], (1, 1), (strides[0], strides[1]), bias=False)
        raise self.refuse(
            f'no strided 1×1 convolution brings "{self.source}", {source}, to the size of "{self.target}", {target}',
            "choose another pair",
        )

    def _skips(self, graph: ArchGraph, join: Node) -> bool:
        """Whether `join` reads the source as one of these moves left it."""
        direct = self.source in join.inputs and join.op.role is not Role.SUM
        return direct or any(
            graph[term].op.role in (Role.FACTOR, Role.LAYER) and graph[term].inputs == (self.source,)
            for term in join.inputs
            if term != self.target
        )

    def _appended(self, graph: ArchGraph) -> dict[Key, Origin]:
        """Index maps of what reads `target`, when the source's channels follow its own."""
        count = graph.shape(self.target if self.project else self.source)[0]
        if any(width_axis(graph, name) != 0 for name in (self.source, self.target)):
            raise self.refuse(
                f'"{self.target}" has its width along another axis than the first', "use how=add or convex"
            )
        try:
            return appended(graph, self.target, count)
        except ValueError as error:
            raise self.refuse(
                f'"{self.target}" can\'t have more channels: {error}', "use how=add or convex"
            ) from None

    def _names(self, graph: ArchGraph) -> tuple[str, str]:
        stem = "scale"
        if self.project:
            stem = (
                "conv" if width_axis(graph, self.source) == 0 and len(graph.shape(self.source)) == 3 else "fc"
            )
        return graph.fresh(stem), graph.fresh("skip")

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """Zeros where the shortcut starts without effect, fresh weights before them."""
        bridge, join = self._names(parent.graph)
        made: dict[Key, tuple[Tensor, Origin]] = {}
        for key in ((bridge, "weight"), (join, "a")):
            if key in graph.params and key not in parent.graph.params:
                shape = graph.params[key].shape
                random = key[0] == bridge and self.how != "add"
                values = self._mixed(graph, bridge, context) if random else torch.zeros(shape)
                made[key] = (values.to(parent.dtype), NEW)
        if self.how == "concat":
            for (owner, name), origin in self._appended(parent.graph).items():
                tensor, rows = origin.gather(parent.weights[owner, name]), origin.axes[0]
                if rows is not None:  # of a norm, a scale or an activation: the new channels' own
                    own = fresh(graph.params[owner, name], tuple(tensor.shape), context.generator).to(
                        tensor.dtype
                    )
                    tensor = torch.where(torch.from_numpy(rows < 0), own, tensor)
                made[owner, name] = (tensor, origin)
        return made

    def _mixed(self, graph: ArchGraph, bridge: str, context: Context) -> Tensor:
        """Random rows, none of which makes a unit that is never positive of a source that is never negative."""
        param = graph.params[bridge, "weight"]
        drawn = fresh(param, param.shape, context.generator)
        if not writes_fixpoints(graph, self.source, "relu"):
            return drawn
        sums = drawn.flatten(1).sum(1).reshape(-1, *[1] * (drawn.dim() - 1))
        return torch.where(sums < 0, -drawn, drawn)


def _stride(size: int, wanted: int) -> int:
    """The stride by which a 1×1 convolution takes `size` pixels to `wanted`; 0 if there is none."""
    return next((s for s in range(1, size + 1) if (size - 1) // s + 1 == wanted), 0)
