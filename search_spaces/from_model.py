"""A space around a network that exists: it is the seed, and the moves are those that suit what it holds."""

from collections.abc import Iterator, Mapping
from typing import Any

from morphs import AddBlock, AddSkip, ArchGraph, Deepen, GrowKernel, InsertBlock, Move, Widen
from search_spaces.space import Space

NORMS = frozenset(("batch_norm", "frozen_batch_norm"))
CONVOLUTIONS = frozenset(("conv2d", "conv"))
TOKENS = frozenset(("attention", "layer_norm", "rms_norm", "embedding"))


def from_model(graph: ArchGraph) -> Space:
    """The space of everything that grows from `graph` by moves that compute the same before any training.

    A network of tokens gets blocks, wider streams, hidden layers and heads; one of images blocks, layers, channels,
    shortcuts and kernels, one of signals or volumes layers, channels and kernels, with batch norms where it has some
    itself. A move without a site in `graph` is left out.
    """
    fitting = (
        (move, menu) for move, menu in _menus(graph) if next(move.sites(graph, None, menu), None) is not None
    )
    return Space(graph, tuple(fitting))


def _menus(graph: ArchGraph) -> Iterator[tuple[type[Move], Mapping[str, Any]]]:
    kinds = {node.op.kind for node in graph}
    norm = bool(kinds & NORMS)
    # a trained network is larger than a space's seed network: smaller steps
    yield Widen, {"factor": (1.25, 1.5), "how": ("replicate", "zero")}
    if kinds & TOKENS:
        yield AddBlock, {"part": ("attention", "mlp")}
        return
    if "conv2d" in kinds:
        yield InsertBlock, {"kind": ("single", "basic"), "how": ("paired", "zero")}
        yield AddSkip, {"reach": (2,)}
    if kinds & CONVOLUTIONS:
        yield GrowKernel, {"max_kernel": (5,)}
    ranks = {len(graph.shape(node.name)) - 1 for node in graph} & {1, 2, 3}
    kernels = tuple((3,) * rank for rank in sorted(ranks)) or ((3, 3),)
    yield Deepen, {"how": ("identity",), "kernels": kernels, "norm": (norm,)}
