"""Fresh weights for a graph."""

from math import prod, sqrt

import torch
from torch import Tensor

from morphs.errors import WeightsError
from morphs.graph.arch import ArchGraph
from morphs.graph.traits import Param
from morphs.network import Network


def init(graph: ArchGraph, seed: int = 0, dtype: torch.dtype = torch.float32) -> Network:
    """A network with fresh weights: He-normal (fan in, gain √2; arXiv 1502.01852) matrices and filters, zero
    biases, neutral batch norms, P-activations at a = 0 (plain φ) and scales at 1.

    The same graph and seed give the same weights. Raises WeightsError for an invalid seed.
    """
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise WeightsError(f"init: seed {seed!r:.40} is not a seed; give a whole number from 0 to 2**63 - 1")
    generator = torch.Generator().manual_seed(seed)
    weights = {key: fresh(param, param.shape, generator).to(dtype) for key, param in graph.params.items()}
    return Network(graph, weights)


def fresh(
    param: Param, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """A fresh tensor of `shape` for `param`, or for some rows of it."""
    if param.deviation is not None:
        return torch.randn(shape, generator=generator, dtype=dtype).mul_(param.deviation)
    if param.start is None:
        return he_normal(shape, generator, dtype)
    return torch.full(shape, param.start, dtype=dtype)


def he_normal(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Normal with variance 2 / fan-in; shape is (out, in, *kernel)."""
    deviation = sqrt(2 / max(1, prod(shape[1:])))
    return torch.randn(shape, generator=generator, dtype=dtype).mul_(deviation)
