"""The layers of residual blocks, and their names in a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Conv2d, Layer, Linear, Pair, Shape
from morphs.moves.squeeze_excite import gate_names

Kind = Literal["single", "basic", "bottleneck", "inverted"]
EXPAND: Mapping[str, float] = MappingProxyType(
    {"single": 1.0, "basic": 1.0, "bottleneck": 0.25, "inverted": 4.0}
)


@dataclass(frozen=True)
class Plan:
    """The layers of a block, one after the other, and fresh names.

    names: for each layer its own, that of its norm and that of the activation after it, "" where there is none.
    gate: the names of a gate before the last layer, if any. close: that of the activation after the sum.
    """

    layers: tuple[Layer, ...]
    names: tuple[tuple[str, str, str], ...]
    gate: tuple[str, ...]
    close: str

    @classmethod
    def named(cls, graph: ArchGraph, layers: tuple[Layer, ...], gated: bool, normed: bool) -> Self:
        """With names that `graph` lacks. gated: whether there is a gate; normed: whether a norm ends the block."""
        taken: list[str] = []

        def fresh(stem: str) -> str:
            taken.append(graph.fresh(stem, taken))
            return taken[-1]

        names: list[tuple[str, str, str]] = []
        for stage, layer in enumerate(layers):
            last = stage == len(layers) - 1
            name = fresh("conv" if layer.convolution else "fc")
            norm = fresh("norm") if normed or not last else ""
            names.append((name, norm, "" if last else fresh("act")))
        close = fresh("act")
        return cls(layers, tuple(names), gate_names(graph, taken) if gated else (), close)

    @property
    def twins(self) -> frozenset[int]:
        """The layers whose units come in equal pairs, where the last one's inputs do: the one before it and, as far as
        that reads one channel to each that it writes, those before.
        """
        found: list[int] = []
        for stage in range(len(self.layers) - 2, -1, -1):
            found.append(stage)
            if self.layers[stage].groups == 1:
                break
        return frozenset(found)


def layers_of(
    kind: Kind, source: Shape, writes: int, inner: int, kernel: Pair, stride: Pair
) -> tuple[Layer, ...]:
    """The layers of a block that reads `source` and writes `writes` channels, by way of `inner`; a single one has a
    second layer where that is not 0.
    """
    if len(source) == 1:
        widths = (inner, inner, writes) if kind == "bottleneck" else (inner, writes) if inner else (writes,)
        return tuple(Linear(width, bias=False) for width in widths)
    padding = (kernel[0] // 2, kernel[1] // 2)

    def wide(channels: int, step: Pair = (1, 1), groups: int = 1) -> Conv2d:
        return Conv2d(channels, kernel, step, padding, groups=groups, bias=False)

    def narrow(channels: int) -> Conv2d:
        return Conv2d(channels, (1, 1), bias=False)

    chains: Mapping[Kind, tuple[Layer, ...]] = {
        "single": (wide(inner, stride), narrow(writes)) if inner else (wide(writes, stride),),
        "basic": (wide(inner, stride), wide(writes)),
        "bottleneck": (narrow(inner), wide(inner, stride), narrow(writes)),
        "inverted": (narrow(inner), wide(inner, stride, inner), narrow(writes)),
    }
    return chains[kind]


def stride_between(source: Shape, target: Shape) -> Pair | None:
    """The strides by which a layer that keeps the size of a map takes that of `source` to `target`'s, if any."""
    found = [
        next((step for step in range(1, size + 1) if (size - 1) // step + 1 == wanted), 0)
        for size, wanted in zip(source[1:], target[1:], strict=True)
    ]
    return (found[0], found[1]) if all(found) else None
