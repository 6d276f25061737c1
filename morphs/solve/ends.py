"""The ends of Algorithm 2: along each axis one factor holds all of G and the other has a single effective tap.

Then the equation is a product of two matrices, so that it has an exact solution if and only if there are as many
channels as the rank of G, reshaped: the end for which Algorithm 2 is proved to stop, its mirror image, and two that
part height from width.
"""

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from morphs.graph.ops import Pair
from morphs.solve.equation import Equation, Factors, noise, place


def ends(kernel: Pair, one: Pair, two: Pair) -> Iterator[Pair]:
    """Which factor (0: F1, 1: F2) holds all of G along each axis, the other having one effective tap there."""
    for held in ((0, 0), (1, 1), (0, 1), (1, 0)):
        if all((one, two)[by][axis] >= kernel[axis] for axis, by in enumerate(held)):
            yield held


def end(equation: Equation, held: Pair, generator: torch.Generator) -> Factors:
    """The end of Algorithm 2, a product of two matrices: exact if and only if C ≥ the rank of G, reshaped.

    Its rows are C₊ and the axes that F2 holds, its columns C₋ and the axes that F1 holds.
    """
    left, right = _product(matrix(equation.goal, held), equation.channels, generator)
    sizes = [
        [k if by == factor else 1 for k, by in zip(equation.kernel, held, strict=True)] for factor in (0, 1)
    ]
    first = right.reshape(equation.channels, equation.goal.shape[1], *sizes[0])
    second = left.reshape(equation.goal.shape[0], *sizes[1], equation.channels).movedim(3, 1)
    starts: list[Pair] = []  # of F1 and F2 along each axis; both sum to `at`
    for by, one, two, kernel, at in zip(
        held, equation.one, equation.two, equation.kernel, equation.at, strict=True
    ):
        holder, other = (two, one) if by else (one, two)
        tap = min(max((other - 1) // 2, at + kernel - holder), at)  # of the factor that has one
        starts.append((tap, at - tap) if by else (at - tap, tap))
    (top1, top2), (left1, left2) = starts
    return place(first, (top1, left1), equation.one), place(second, (top2, left2), equation.two), 1.0


def matrix(goal: Tensor, held: Pair) -> Tensor:
    """G as the matrix whose rank is the number of channels that this end needs."""
    rows = [0, *(2 + axis for axis in (0, 1) if held[axis])]
    turned = goal.permute(*rows, *(axis for axis in (1, 2, 3) if axis not in rows))
    return turned.reshape(prod(turned.shape[: len(rows)]), -1)


def _product(whole: Tensor, inner: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`whole` [R, S] as left [R, inner] @ right [inner, S], exact if inner ≥ its rank; the smaller one random.

    With inner ≥ R the rows of `left` are orthonormal; with fewer they are the coordinates, in random orthonormal
    directions, of an orthonormal basis of the columns of `whole`. Mirrored where S is smaller.
    """
    high, wide = whole.shape
    if wide < high:
        left, right = _product(whole.T, inner, generator)
        return right.T, left.T
    mixing = _orthonormal(noise((min(high, inner), inner), generator))
    if inner < high:
        mixing = torch.linalg.svd(whole, full_matrices=False)[0][:, :inner] @ mixing
    return mixing, mixing.T @ whole


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows: by Cholesky where they are far from dependent, which is faster than QR."""
    if rows.shape[1] < 2 * rows.shape[0]:
        return torch.linalg.qr(rows.T)[0].T
    return torch.linalg.solve_triangular(torch.linalg.cholesky(rows @ rows.T), rows, upper=False)
