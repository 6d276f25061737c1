"""Examples for a network's inputs: drawn at random, and in the types that a module reads. N examples."""

import torch
from torch import Tensor

from morphs.graph.arch import ArchGraph
from morphs.graph.ops import Op


def random_inputs(
    graph: ArchGraph, count: int, generator: torch.Generator, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """`count` examples for each input: standard normal in `dtype`, or whole numbers where it reads those: below its
    number of tokens, else 0 and 1."""
    found: list[Tensor] = []
    for node in graph.inputs:
        size, op = (count, *graph.shape(node.name)), node.op
        if op.whole is None:
            found.append(torch.randn(size, generator=generator, dtype=dtype))
        else:
            below = op.vocabulary or 2
            drawn = torch.randint(below, size, generator=generator)
            if op.vocabulary is None:
                drawn[..., :1] = 1  # as in masks, which hide only some of what they are of
            found.append(readable(drawn, op))
    return tuple(found)


def readable(tensor: Tensor, op: Op) -> Tensor:
    """`tensor` as whole numbers where the input `op` reads those, else as floating numbers."""
    if op.whole is not None:
        return tensor.to(getattr(torch, op.whole))
    if tensor.is_floating_point():
        return tensor
    return tensor.to(torch.float32 if tensor.element_size() == 1 else torch.float64)


def in_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in `dtype`, whole numbers as they are."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def beyond(tensor: Tensor, op: Op) -> str | None:
    """What is wrong with whole numbers that the input `op` is to read."""
    below = op.vocabulary
    if below is None or not tensor.numel():
        return None
    low, high = float(tensor.min()), float(tensor.max())
    whole = not tensor.is_floating_point() or bool((tensor == tensor.round()).all())
    return (
        None
        if low >= 0 and high < below and whole
        else f"holds other than whole numbers from 0 to {below - 1}"
    )
