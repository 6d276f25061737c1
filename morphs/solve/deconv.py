"""Deconvolution: Σ_c X[a, c] ⊛ known[c, b] = target[a, b] solved for X, everything in float64.

It is the linear half of the network morphism equation (paper §3.2, Algorithm 1): with one factor fixed the
equation is linear in the other and decouples over its output channels a, so that there is one matrix and A
right-hand sides. Positions decouple too along an axis on which `known` has a single tap. Only the smaller Gram
matrix of the decoupled system is built, and from lag products: products of `known` with itself, shifted.

A right-hand sides, B and C channels, k kernel of `known`, K kernel of X, k + K − 1 kernel of the target.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor

from morphs.graph.ops import Pair

# condition of the matrix; the Gram matrix has its square, near 1 / machine precision beyond
CHOLESKY_LIMIT = 1e6
REFINED = 20.0  # condition beyond which a solution is refined; below, its error is some 1e-14 of it already
SVD_LIMIT = 640  # unknowns and equations: larger systems aren't worth a singular value decomposition
POWER_STEPS, POWER_COLUMNS = 2, 4  # estimate a condition within a factor of 2
RANK = 1e-10  # relative: singular values below it count as zero


def compose(first: Tensor, second: Tensor) -> Tensor:
    """F2 ⊛ F1 [C₊, C₋, K1 + K2 − 1] (equation 5) of F1 [C, C₋, K1] and F2 [C₊, C, K2]."""
    if kernel_of(second) == (1, 1):
        return (second.flatten(1) @ first.flatten(1)).reshape(-1, *first.shape[1:])
    system = _System(first.permute(0, 2, 3, 1).contiguous(), kernel_of(second))
    return system.apply(second.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def deconv(known: Tensor, target: Tensor, kernel: Pair) -> tuple[Tensor, float]:
    """The least-squares X [A, C, kernel] of least norm, and the condition of the decoupled system.

    known [C, B, k], target [A, B, k + kernel − 1]. Cholesky of the smaller Gram matrix, with one step of iterative
    refinement where that gains anything; a small system that is too ill conditioned for it is solved by singular
    values, and then the condition is that of its rank. A large one that is has condition infinity.
    """
    taps = kernel_of(known)
    # an axis on which `known` has one tap becomes more right-hand sides
    more = [size if tap == 1 else 1 for size, tap in zip(target.shape[2:], taps, strict=True)]
    rows, ins, high, wide = target.shape
    split = target.reshape(rows, ins, more[0], high // more[0], more[1], wide // more[1])
    right = split.permute(0, 2, 4, 3, 5, 1).reshape(-1, high // more[0], wide // more[1], ins)
    inner = (kernel[0] // more[0], kernel[1] // more[1])
    system = _System(known.permute(0, 2, 3, 1).contiguous(), inner)
    found, condition = system.solve(right)
    found = found.reshape(rows, *more, *inner, -1).permute(0, 5, 1, 3, 2, 4)
    return found.reshape(rows, -1, *kernel), condition


def kernel_of(filters: Tensor) -> Pair:
    """Height and width of filters [C, C', K, K']."""
    return int(filters.shape[2]), int(filters.shape[3])


@dataclass(frozen=True)
class _System:
    """The linear map from X [A, *kernel, C] to its composition with `known` [C, *k, B]: [A, *(k + kernel − 1), B].

    Channels come last, so that a window of a tensor is made of long runs of memory.
    """

    known: Tensor
    kernel: Pair

    @property
    def sizes(self) -> tuple[int, int]:
        """Unknowns and equations of each right-hand side."""
        channels, height, width, ins = self.known.shape
        composite = (height + self.kernel[0] - 1) * (width + self.kernel[1] - 1)
        return channels * prod(self.kernel), composite * ins

    def windows(self, target: Tensor) -> list[tuple[int, int, Tensor]]:
        """For each tap (i, j) of X the part of `target` that it writes to, a view."""
        _, height, width, _ = self.known.shape
        return [
            (i, j, target[:, i : i + height, j : j + width]) for i, j in product(*map(range, self.kernel))
        ]

    def apply(self, x: Tensor) -> Tensor:
        channels, height, width, ins = self.known.shape
        out = x.new_zeros(len(x), height + self.kernel[0] - 1, width + self.kernel[1] - 1, ins)
        for i, j, window in self.windows(out):
            window += (x[:, i, j] @ self.known.reshape(channels, -1)).reshape(window.shape)
        return out

    def adjoint(self, target: Tensor) -> Tensor:
        flat = self.known.flatten(1).T
        x = target.new_empty(len(target), *self.kernel, len(self.known))
        for i, j, window in self.windows(target):
            x[:, i, j] = window.reshape(len(target), -1) @ flat
        return x

    def gram_of_equations(self) -> Tensor:
        """Entry (p, b), (q, d): Σ over c and taps i of known[c, p − i, b]·known[c, q − i, d]."""
        _, height, width, ins = self.known.shape
        flat = self.known.flatten(1)
        lags = (flat.T @ flat).reshape(height, width, ins, height, width, ins)
        high, wide = height + self.kernel[0] - 1, width + self.kernel[1] - 1
        gram = flat.new_zeros(high, wide, ins, high, wide, ins)
        for i, j in product(*map(range, self.kernel)):
            gram[i : i + height, j : j + width, :, i : i + height, j : j + width] += lags
        return gram.reshape(high * wide * ins, -1)

    def gram_of_unknowns(self) -> Tensor:
        """Entry (i, c), (j, e): the lag product Σ over q and b of known[c, q, b]·known[e, q + i − j, b]."""
        channels, height, width, _ = self.known.shape
        gram = self.known.new_zeros(*self.kernel, channels, *self.kernel, channels)
        for down, right in product(*(range(1 - k, k) for k in self.kernel)):
            if abs(down) >= height or abs(right) >= width:
                continue
            one, other = (
                self.known[
                    :,
                    max(0, s * down) : height + min(0, s * down),
                    max(0, s * right) : width + min(0, s * right),
                ]
                for s in (-1, 1)
            )
            lag = one.flatten(1) @ other.flatten(1).T
            for i, j in product(*map(range, self.kernel)):
                if 0 <= i - down < self.kernel[0] and 0 <= j - right < self.kernel[1]:
                    gram[i, j, :, i - down, j - right] = lag
        return gram.reshape(channels * prod(self.kernel), -1)

    def solve(self, right: Tensor) -> tuple[Tensor, float]:
        unknowns, equations = self.sizes
        gram = self.gram_of_unknowns() if unknowns < equations else self.gram_of_equations()
        largest = _power(lambda v: gram @ v, len(gram))
        factor, failed = _cholesky(gram)
        condition = float("inf")
        if not failed:
            condition = (largest * _power(lambda v: _substitute(factor, v.T).T, len(gram))) ** 0.5
        if condition <= CHOLESKY_LIMIT:
            x = self._step(factor, right)
            if condition > REFINED:
                x += self._step(factor, right - self.apply(x))
            return x, condition
        if max(unknowns, equations) <= SVD_LIMIT:
            return self._by_singular_values(right)
        return right.new_zeros(len(right), *self.kernel, len(self.known)), float("inf")

    def _step(self, factor: Tensor, right: Tensor) -> Tensor:
        """Least-squares or least-norm solution from the Cholesky factor of the smaller Gram matrix."""
        unknowns, equations = self.sizes
        if unknowns < equations:
            x = self.adjoint(right)
            return _substitute(factor, x.flatten(1)).reshape(x.shape)
        return self.adjoint(_substitute(factor, right.flatten(1)).reshape(right.shape))

    def _by_singular_values(self, right: Tensor) -> tuple[Tensor, float]:
        unknowns, _ = self.sizes
        units = torch.eye(unknowns, dtype=right.dtype).reshape(unknowns, *self.kernel, -1)
        matrix = self.apply(units).flatten(1).T
        found = torch.linalg.lstsq(matrix, right.flatten(1).T, rcond=RANK, driver="gelsd")
        values = found.singular_values[found.singular_values > RANK * found.singular_values[0]]
        condition = float(values[0] / values[-1]) if len(values) else float("inf")
        return found.solution.T.reshape(len(right), *self.kernel, -1), condition


def _cholesky(gram: Tensor) -> tuple[Tensor, bool]:
    """The lower factor, written over `gram`, and whether there is none."""
    info = torch.zeros((), dtype=torch.int32)
    # the transposed view: LAPACK's order, hence no copy
    torch.linalg.cholesky_ex(gram.mT, out=(gram.mT, info))
    return gram.mT, bool(info)


def _substitute(factor: Tensor, rows: Tensor) -> Tensor:
    """`rows` [A, n] times the inverse of the Gram matrix."""
    half = torch.linalg.solve_triangular(factor, rows.T, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True).T


def _power(step: Callable[[Tensor], Tensor], size: int) -> float:
    """Largest eigenvalue of a symmetric positive map on [size, columns], from below, by block power iteration."""
    columns = min(POWER_COLUMNS, size)
    block = torch.arange(1, size * columns + 1, dtype=torch.float64).square().sin().reshape(size, columns)
    for _ in range(POWER_STEPS):
        block = step(torch.linalg.qr(block)[0])
    return float(torch.linalg.matrix_norm(block, 2))
