"""GrowKernel: a larger convolution kernel (paper §3.4.2, figure 5)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from morphs.choices import Choices
from morphs.errors import ShapeError
from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Sizes
from morphs.move import Context, Made, Move, Options, Origin
from morphs.moves.editing import chosen, convolution_at, convolutions, with_op
from morphs.network import Network

PORTION = 2**18  # bytes set to zero at a time, still in the cache when the filters are written there


@dataclass(frozen=True)
class GrowKernel(Move):
    """Give the convolution `node`, of a signal, a map or a volume, the kernel `to`; new taps are zero and the padding
    grows with them.

    It grows by the dilation times half of what the kernel grows, on each side.
    """

    name: ClassVar[str] = "grow_kernel"
    summary: ClassVar[str] = "a larger convolution kernel, new taps zero"
    choices: ClassVar[Choices] = {"by": Sizes, "max_kernel": int}

    node: str
    to: Sizes

    @classmethod
    def candidates(cls, graph: ArchGraph, options: Options) -> Iterator[Self]:
        """Options: by (numbers to add along each axis: one for signals, two for maps, three for volumes),
        max_kernel.
        """
        most = chosen(options, "max_kernel", (7,))[0]
        for name, op in convolutions(graph):
            for grow in chosen(options, "by", ((2,), (2, 2), (2, 2, 2))):
                if len(grow) == len(op.kernel):
                    to = tuple(old + more for old, more in zip(op.kernel, grow, strict=True))
                    if max(to) <= most:
                        yield cls(name, to)

    def reshape(self, graph: ArchGraph) -> ArchGraph:
        """The child's graph."""
        op = convolution_at(self, graph, self.node)
        if len(self.to) != len(op.kernel):
            raise self.refuse(
                f'node "{self.node}" has kernel {op.kernel}, of which {self.to} has another number of axes',
                f"give {len(op.kernel)}",
            )
        more = tuple(new - old for new, old in zip(self.to, op.kernel, strict=True))
        if min(more) < 0 or max(more) == 0 or any(m % 2 for m in more):
            raise self.refuse(
                f'node "{self.node}" has kernel {op.kernel}, which can\'t grow to {self.to} evenly on both sides',
                "choose a larger kernel, by an even number of taps on each axis",
            )
        padding = tuple(p + d * m // 2 for p, d, m in zip(op.padding, op.dilation, more, strict=True))
        try:
            return graph.update(*with_op(graph, self.node, kernel=self.to, padding=padding))
        except ShapeError as error:
            raise self.refuse(str(error), "choose a smaller kernel") from None

    def fill(self, parent: Network, graph: ArchGraph, context: Context) -> Made:
        """The filters in the middle of zeros."""
        owner = graph[self.node].owner
        weight = parent.weights[owner, "weight"]
        axes: list[np.ndarray | None] = [None, None]
        for old, new in zip(weight.shape[2:], self.to, strict=True):
            side = (new - old) // 2
            index = np.arange(-side, new - side)
            axes.append(np.where((index < 0) | (index >= old), -1, index) if side else None)
        return {(owner, "weight"): (embed(weight, self.to), Origin((owner, "weight"), tuple(axes)))}


def embed(filters: Tensor, kernel: Sizes) -> Tensor:
    """Filters [C, C', K, …] in the middle of zeros, [C, C', *kernel]."""
    grown = filters.new_empty((*filters.shape[:2], *kernel))
    middle = grown
    for axis, (old, new) in enumerate(zip(filters.shape[2:], kernel, strict=True), 2):
        middle = middle.narrow(axis, (new - old) // 2, old)
    # of 1×1 filters that lie channels last only one is
    packed = filters.is_contiguous() and filters.stride(-1) == 1
    if filters.device.type == "cpu" and packed:
        # row by row of a filter as one item: half again as fast as torch, which copies the numbers one by one
        row = f"V{filters.shape[-1] * filters.element_size()}"
        to, of = (tensor.view(torch.uint8).numpy().view(row) for tensor in (middle, filters))
        whole = grown.view(torch.uint8).numpy()  # numpy has no bfloat16; zeros are zero bytes in every type
        step = PORTION // max(whole[:1].nbytes, 1) + 1
        for start in range(0, len(whole), step):
            part = slice(start, start + step)
            whole[part] = 0
            to[part] = of[part]
    else:
        grown.zero_()
        middle.copy_(filters)
    return grown
