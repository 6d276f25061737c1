"""The networks of the benchmark as graphs: the seed network in any width, a ResNet-9, and Optuna's family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import morphs
from morphs import ArchGraph
from search_spaces import Shape, residual

STAGES = (1, 2, 4)  # widths of the stages, in multiples of the network's width


@dataclass(frozen=True)
class Family:
    """Three stages of width w, 2w, 4w with max-pooling between: a convolution each, then blocks of one more.

    blocks: the number in each stage. shortcuts: whether each block's output is added to its input.
    """

    width: int
    blocks: Sequence[int] = (0, 0, 0)
    kernel: int = 3
    shortcuts: bool = True

    def graph(self, shape: Shape, classes: int) -> ArchGraph:
        """The network for images of `shape`."""
        draft = Draft(shape)
        at = "x"
        for stage, (multiple, blocks) in enumerate(zip(STAGES, self.blocks, strict=True)):
            at = draft.layer(draft.pooled(at) if stage else at, multiple * self.width, self.kernel)
            for _ in range(blocks):
                new = draft.layer(at, multiple * self.width, self.kernel)
                at = draft.add(f"add({at}, {new})") if self.shortcuts else new
        return draft.ended(at, classes)


def seed_network(width: int, shape: Shape, classes: int) -> ArchGraph:
    """The engine's seed network, `width` channels wide in its first stage."""
    return residual(shape, classes, width).seed


def resnet9(width: int, shape: Shape, classes: int) -> ArchGraph:
    """ResNet-9 as in David Page's DAWNBench entry: w, 2w + residual, 4w, 8w + residual; pooling after each but w."""
    draft = Draft(shape)
    at = draft.layer("x", width)
    for multiple, with_block in ((2, True), (4, False), (8, True)):
        at = draft.pooled(draft.layer(at, multiple * width))
        if with_block:
            inner = draft.layer(draft.layer(at, multiple * width), multiple * width)
            at = draft.add(f"add({at}, {inner})")
    return draft.ended(at, classes)


class Draft:
    """A graph's text, line by line."""

    def __init__(self, shape: Shape) -> None:
        self._lines = [f"x = input(size={list(shape)})"]

    def add(self, call: str) -> str:
        """Add a node; return its name."""
        name = f"n{len(self._lines)}"
        self._lines.append(f"{name} = {call}")
        return name

    def layer(self, source: str, channels: int, kernel: int = 3) -> str:
        """Convolution, batch norm and ReLU."""
        same = f"kernel={kernel}, padding={kernel // 2}, bias=false"
        at = self.add(f"conv2d({source}, channels={channels}, {same})")
        return self.add(f"relu({self.add(f'batch_norm({at})')})")

    def pooled(self, source: str) -> str:
        """The map at half its size."""
        return self.add(f"max_pool2d({source}, kernel=2)")

    def ended(self, source: str, classes: int) -> ArchGraph:
        """The graph, ended by global average pooling and a linear layer."""
        flat = self.add(f"flatten({self.add(f'adaptive_avg_pool2d({source})')})")
        self.add(f"output({self.add(f'linear({flat}, features={classes})')})")
        return morphs.parse_graph("\n".join(self._lines))
