"""Least squares from streamed products (CompNet equations 2 and 11). N rows, P columns, D outputs; float64."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

CONDITION = 1e10  # of a Gram matrix: beyond it Cholesky's answer isn't used


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the rows of A [N, P] and O [N, D] seen so far: all that the fits look at.

    rows: N. inner: AᵀA [P, P]. cross: AᵀO [P, D]. square: ‖O‖². a, o: column sums [P] and [D].
    """

    rows: int
    inner: Tensor
    cross: Tensor
    square: float
    a: Tensor
    o: Tensor

    @staticmethod
    def of(a: Tensor, o: Tensor) -> "Moments":
        """Of A [N, P] and O [N, D], in their own precision, kept in float64."""
        return Moments(
            len(a), gram(a).double(), (a.T @ o).double(), float(o.square().sum()),
            a.sum(0).double(), o.sum(0).double(),
        )  # fmt: skip

    def __add__(self, other: "Moments") -> "Moments":
        """Of both sets of rows; the larger sums of `self` are written to, so it must not be used afterwards."""
        return Moments(
            self.rows + other.rows, self.inner.add_(other.inner), self.cross.add_(other.cross),
            self.square + other.square, self.a + other.a, self.o + other.o,
        )  # fmt: skip

    def products(self, centred: bool) -> tuple[Tensor, Tensor, float]:
        """AᵀA/N, AᵀO/N and ‖O‖²/N; with `centred`, of the columns less their means."""
        inner, cross, square = self.inner / self.rows, self.cross / self.rows, self.square / self.rows
        if centred:
            a, o = self.a / self.rows, self.o / self.rows
            inner = torch.addr(inner, a, a, alpha=-1)
            cross = torch.addr(cross, a, o, alpha=-1)
            square = max(0.0, square - float(o.square().sum()))
        return inner, cross, square

    def offset(self, weight: Tensor, columns: Tensor | None = None) -> Tensor:
        """The intercept [D] that belongs to W [P, D] fitted on centred columns, or on some of them."""
        a = self.a if columns is None else self.a[columns]
        return (self.o - a @ weight) / self.rows


def gram(a: Tensor, parts: int = 4) -> Tensor:
    """AᵀA [P, P] of A [N, P]; with many columns block by block, those below the diagonal copied: 5/8 of the work."""
    if a.shape[1] < 64 * parts:
        return a.T @ a
    found = a.new_empty(a.shape[1], a.shape[1])
    ends = [a.shape[1] * k // parts for k in range(parts + 1)]
    for start, stop in pairwise(ends):
        torch.mm(a[:, start:stop].T, a[:, start:], out=found[start:stop, start:])
        found[stop:, start:stop] = found[start:stop, stop:].T
    return found


def solve(inner: Tensor, cross: Tensor, ridge: float = 0.0) -> Tensor:
    """W [P, D] that minimises ‖O − AW‖² + ridge · N · m · ‖W‖², m the mean of the columns' mean squares.

    inner: AᵀA/N, cross: AᵀO/N. By Cholesky's factoring with one refinement; where the matrix is singular or nearly so
    (collinear columns, or fewer rows than columns, without a ridge), by its eigenvectors, the directions without
    spread left out: then W is the solution of least norm.
    """
    level = float(inner.diagonal().mean())
    if level <= 0:
        return torch.zeros_like(cross)
    matrix = inner.clone()
    matrix.diagonal().add_(ridge * level)
    factor, info = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal()
    if int(info) == 0 and float(pivots.max() / pivots.min()) ** 2 < CONDITION:
        found = torch.cholesky_solve(cross, factor)
        return found + torch.cholesky_solve(cross - matrix @ found, factor)
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > values[-1] * len(values) * torch.finfo(torch.float64).eps * 10
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    return vectors @ (inverse[:, None] * (vectors.T @ cross))


def residual(inner: Tensor, cross: Tensor, square: float, weight: Tensor) -> float:
    """‖O − AW‖ / ‖O‖ from the products; 0 where O is zero."""
    if square <= 0:
        return 0.0
    left = square - 2 * float((weight * cross).sum()) + float((weight * (inner @ weight)).sum())
    return (max(0.0, left) / square) ** 0.5
