"""The network morphism equation G̃ = F2 ⊛ F1 (paper §3.1–3.2, equation 6), solved.

A convolution with G [C₊, C₋, K] is replaced by F1 [C, C₋, K1] followed by F2 [C₊, C, K2]; their composite has
kernel K̃ = K1 + K2 − 1, and G̃ is G padded by zeros to K̃. Kernels are pairs (height, width); a matrix product is
the case K = K1 = K2 = 1. Everything is float64.

With one factor fixed the equation is linear in the other and decouples: over output channels for F2 (one
matrix, C₊ right-hand sides), over input channels for F1. Only the decoupled system is ever built.
"""

from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

from morphs.errors import NoFactoring
from morphs.graph.ops import Pair

RESIDUAL = 1e-12  # relative, in the largest entry: what counts as solved
POWER_STEPS = 20  # enough to tell the order of a condition
CONDITION = 1e3  # of the decoupled matrix: beyond it float32 drifts, so a solution is not used


@dataclass(frozen=True)
class Factoring:
    """F1 and F2 with equal spread, the relative residual of their product, and the support that F1 and F2 fill.

    spread: the factors' common standard deviation divided by G's.
    """

    first: Tensor
    second: Tensor
    residual: float
    support: tuple[Pair, Pair]
    spread: float


def compose(first: Tensor, second: Tensor) -> Tensor:
    """F2 ⊛ F1 [C₊, C₋, K1 + K2 − 1] (equation 5)."""
    k2 = second.shape[2:]
    flipped = second.flip(2, 3)
    full = torch.nn.functional.conv2d(first.transpose(0, 1), flipped, padding=(k2[0] - 1, k2[1] - 1))
    return full.transpose(0, 1)


def deconv(known: Tensor, target: Tensor, kernel: Pair) -> tuple[Tensor, float]:
    """Least-norm X [A, C, kernel] with Σ_c X[a, c] ⊛ known[c, b] = target[a, b], and the system's condition.

    known [C, B, k], target [A, B, k + kernel − 1]. The condition is infinite when the system has more
    equations than unknowns or no Cholesky factor. Cholesky of the smaller Gram matrix and one refinement.
    """
    c, b, kh, kw = known.shape
    unknowns, equations = c * prod(kernel), b * prod(target.shape[2:])
    if (kh, kw) == (1, 1):
        equations = b  # positions decouple as well
        matrix = known.reshape(c, b)
        right = target.movedim(1, 3).reshape(-1, b)
    else:
        system = known.new_zeros(c, *kernel, b, *target.shape[2:])
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                system[:, i, j, :, i : i + kh, j : j + kw] = known
        matrix = system.reshape(unknowns, equations)
        right = target.reshape(-1, equations)
    if matrix.shape[0] < equations:
        return target.new_zeros(target.shape[0], c, *kernel), float("inf")
    factor, info = torch.linalg.cholesky_ex(matrix.T @ matrix)
    if int(info) != 0:
        return target.new_zeros(target.shape[0], c, *kernel), float("inf")
    solution = torch.cholesky_solve(right.T, factor).T @ matrix.T
    rest = right - solution @ matrix
    solution = solution + torch.cholesky_solve(rest.T, factor).T @ matrix.T
    if (kh, kw) == (1, 1):
        solution = solution.reshape(target.shape[0], *kernel, c).movedim(3, 1)
    return solution.reshape(target.shape[0], c, *kernel), _condition(factor)


def _condition(factor: Tensor) -> float:
    """The 2-norm condition of a matrix from the Cholesky factor of its Gram matrix, by power iteration."""
    large = small = torch.linspace(1, 2, len(factor), dtype=factor.dtype)[:, None]
    for _ in range(POWER_STEPS):
        large = factor @ (factor.T @ (large / large.norm()))
        small = torch.cholesky_solve(small / small.norm(), factor)
    return float((large.norm() * small.norm()).sqrt())


def factor(target: Tensor, channels: int, first: Pair, second: Pair, generator: torch.Generator) -> Factoring:
    """An exact factoring of G = `target` [C₊, C₋, K] with `channels` between kernels `first` and `second`.

    Algorithm 1 in one step where its condition (equation 7) holds and the system is well conditioned; else
    Algorithm 2: the effective kernel of one factor shrinks, down to 1, and the factor is padded with zeros.

    Raises NoFactoring, naming a number of channels that works, when no exact factoring exists.
    """
    goal = target.double()
    found = _solve(goal, channels, first, second, generator)
    if found is not None:
        return _finish(goal, *found)
    raise NoFactoring(_why_not(goal, channels, first, second, generator))


def _solve(
    goal: Tensor, channels: int, first: Pair, second: Pair, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """F1 and F2; F1 full if possible, else F2."""
    found = _shrink_second(goal, channels, first, second, generator)
    if found is not None:
        return found
    # the mirrored equation: Gᵀ = F1ᵀ ⊛ F2ᵀ
    found = _shrink_second(goal.transpose(0, 1), channels, second, first, generator)
    return None if found is None else (found[1].transpose(0, 1), found[0].transpose(0, 1))


def _shrink_second(
    goal: Tensor, channels: int, one: Pair, two: Pair, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """Algorithm 2 for 'F1 expands G': F1 full, F2 of effective kernel from `two` down to 1."""
    kernel = (int(goal.shape[2]), int(goal.shape[3]))
    grown = tuple((a + b - 1 - k) // 2 for a, b, k in zip(one, two, kernel, strict=True))
    for step in range(max(two)):
        small = (max(1, two[0] - step), max(1, two[1] - step))
        left = tuple((full - part) // 2 for full, part in zip(two, small, strict=True))
        offset = tuple(g - at for g, at in zip(grown, left, strict=True))
        room = tuple(a + b - 1 - k - o for a, b, k, o in zip(one, small, kernel, offset, strict=True))
        if min(*offset, *room) < 0:
            continue
        padded = torch.nn.functional.pad(goal, (offset[1], room[1], offset[0], room[0]))
        found = _one_step(padded, channels, one, small, generator)
        if found is not None:
            right = tuple(full - part - at for full, part, at in zip(two, small, left, strict=True))
            return found[0], torch.nn.functional.pad(found[1], (left[1], right[1], left[0], right[0]))
    return None


def _one_step(
    padded: Tensor, channels: int, one: Pair, two: Pair, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """Fix one random factor and solve for the other; None unless the product is exact and well conditioned."""
    outs, ins = padded.shape[:2]
    if channels * prod(two) >= ins * prod(padded.shape[2:]):
        first = _noise((channels, ins, *one), generator)
        second, condition = deconv(first, padded, two)
        if condition <= CONDITION and _residual(padded, first, second) <= RESIDUAL:
            return first, second
    if two == (1, 1):
        second = _span(padded, channels, generator)
        first = torch.einsum("oc,oikl->cikl", second.flatten(1), padded)
        return (first, second) if _residual(padded, first, second) <= RESIDUAL else None
    if channels * prod(one) >= outs * prod(padded.shape[2:]):
        second = _noise((outs, channels, *two), generator)
        mirrored, condition = deconv(second.transpose(0, 1), padded.transpose(0, 1), one)
        first = mirrored.transpose(0, 1)
        if condition <= CONDITION and _residual(padded, first, second) <= RESIDUAL:
            return first, second
    return None


def _span(padded: Tensor, channels: int, generator: torch.Generator) -> Tensor:
    """A random 1×1 factor F2 [C₊, C, 1, 1] with F2·F2ᵀ·G = G if C ≥ the rank of G; then F1 = F2ᵀ·G is exact.

    With C ≥ C₊ its rows are orthonormal; with fewer they are the coordinates, in C random orthonormal
    directions, of an orthonormal basis [C₊, R] of the columns of G.
    """
    outs = len(padded)
    if channels >= outs:
        basis = torch.eye(outs, dtype=padded.dtype)
    else:
        basis = torch.linalg.svd(padded.flatten(1), full_matrices=False)[0][:, :channels]
    mixing = torch.linalg.qr(_noise((channels, basis.shape[1]), generator))[0].T
    return (basis @ mixing)[:, :, None, None]


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise / sqrt(max(1, prod(shape[1:])))


def _residual(padded: Tensor, first: Tensor, second: Tensor) -> float:
    """Largest error of the product, relative to the largest entry of G."""
    error = float((compose(first, second) - padded).abs().max())
    return error / (float(padded.abs().max()) or 1.0)


def _finish(goal: Tensor, first: Tensor, second: Tensor) -> Factoring:
    """Give both factors the same spread, keeping their product: one times s, the other times 1/s."""
    spread1, spread2 = float(first.std(correction=0)), float(second.std(correction=0))
    if spread1 > 0 and spread2 > 0:
        scale = sqrt(spread2 / spread1)
        first, second = first * scale, second / scale
    padding = [
        (a + b - 1 - k) // 2
        for a, b, k in zip(first.shape[2:], second.shape[2:], goal.shape[2:], strict=True)
    ]
    padded = torch.nn.functional.pad(goal, (padding[1], padding[1], padding[0], padding[0]))
    spread = float(first.std(correction=0)) / (float(goal.std(correction=0)) or 1.0)
    support = (_support(first), _support(second))
    return Factoring(first, second, _residual(padded, first, second), support, spread)


def _support(factor: Tensor) -> Pair:
    """Rows and columns of the kernel that are not all zero."""
    filled = (factor != 0).flatten(0, 1).any(0)
    return int(filled.any(1).sum()), int(filled.any(0).sum())


def _why_not(goal: Tensor, channels: int, first: Pair, second: Pair, generator: torch.Generator) -> str:
    """Why no exact factoring was found, and a number of channels that was seen to work."""
    outs, ins, kernel = goal.shape[0], goal.shape[1], goal.shape[2:]
    needs: list[int] = []
    if all(a >= k for a, k in zip(first, kernel, strict=True)):
        needs.append(int(torch.linalg.matrix_rank(goal.flatten(1))))
    if all(b >= k for b, k in zip(second, kernel, strict=True)):
        needs.append(int(torch.linalg.matrix_rank(goal.transpose(0, 1).flatten(1))))
    composite = [a + b - 1 for a, b in zip(first, second, strict=True)]
    needs.append(-(-ins * prod(composite) // prod(second)))
    needs.append(-(-outs * prod(composite) // prod(first)))
    # counting is necessary, not sufficient: a square system may be ill conditioned, and a little more does
    tries = sorted({n for need in needs for n in (need, need + 1, need + need // 4 + 1) if n > channels})
    works = next((n for n in tries if _solve(goal, n, first, second, generator) is not None), None)
    remedy = "choose other kernels" if works is None else f"use {works} channels or more"
    return (
        f"no exact factoring of {outs}×{ins} channels, kernel {tuple(kernel)}, into kernels {first} and {second} "
        f"with {channels} channels between; {remedy}"
    )
