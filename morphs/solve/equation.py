"""The network morphism equation of one group of channels: G̃ = F2 ⊛ F1 (paper, equation 6), as a value."""

from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt

import torch
from torch import Tensor
from torch.nn.functional import pad

from morphs.graph.ops import Pair
from morphs.solve.deconv import compose, kernel_of

Factors = tuple[Tensor, Tensor, float]  # F1, F2 and the condition of the system that gave them


@dataclass(frozen=True)
class Equation:
    """G [C₊, C₋, K] of one group, the number of channels between and where G sits in the composite kernel."""

    goal: Tensor
    channels: int
    one: Pair
    two: Pair
    at: Pair

    @property
    def kernel(self) -> Pair:
        """Of G."""
        return kernel_of(self.goal)

    @property
    def composite(self) -> Pair:
        """K̃ = K1 + K2 − 1."""
        return self.one[0] + self.two[0] - 1, self.one[1] + self.two[1] - 1

    @property
    def mirrored(self) -> "Equation":
        """The same equation transposed: G̃ᵀ = F1ᵀ ⊛ F2ᵀ."""
        return Equation(self.goal.transpose(0, 1), self.channels, self.two, self.one, self.at)

    @cached_property
    def padded(self) -> Tensor:
        """G̃."""
        return place(self.goal, self.at, self.composite)

    def residual(self, first: Tensor, second: Tensor) -> float:
        """Largest error of the product, relative to the largest entry of G."""
        error = largest(compose(first, second) - self.padded)
        return error / (largest(self.goal) or 1.0)


def silence(last: Tensor, goal: Tensor) -> None:
    """Zero, in place, the rows of the last factor for outputs that `goal` leaves at zero, unless it is all zero.

    Then they stay exactly zero. Solved for, they are zero up to rounding, which a batch norm behind a channel that
    doesn't vary multiplies by 1 / √ε.
    """
    silent = ~goal.flatten(1).any(1)
    if not bool(silent.all()):
        last[silent] = 0


def largest(filters: Tensor) -> float:
    """The largest entry's size."""
    return float(torch.linalg.vector_norm(filters, float("inf")))


def noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random start: dense, normal, with a spread of 1 / √fan-in."""
    drawn = torch.randn(shape, generator=generator)  # float32 is random enough, and several times faster
    return drawn.double() / sqrt(max(1, prod(shape[1:])))


def place(filters: Tensor, at: Pair, kernel: Pair) -> Tensor:
    """`filters` at (top, left) of a larger kernel of zeros."""
    height, width = filters.shape[2:]
    if (height, width) == kernel:
        return filters
    return pad(filters, (at[1], kernel[1] - width - at[1], at[0], kernel[0] - height - at[0]))
