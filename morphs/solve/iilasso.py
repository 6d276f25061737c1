"""The independently interpretable Lasso (CompNet §2.3–2.4; Takada, Suzuki, Fujisawa, arXiv 1711.01796).

    minimise over β [D]   ½ βᵀGβ − cᵀβ + λ(‖β‖₁ + α/2 |β|ᵀR|β|)

With G = XᵀX / N and c = Xᵀy / N this is equation 6 (and 3) up to a constant; only these cached products are looked
at, so a sweep costs D² whatever N is. R is the similarity of equation 7. With α = 0 it is the plain Lasso, which is
convex; with α > 0 it need not be, and the start then decides which local minimum is found.

Everything is float64. D neurons, N rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vector = NDArray[np.float64]

LARGEST = 1e12  # of a similarity: that of equal columns, which equation 7 leaves infinite
TOLERANCE = 1e-7  # of β, relative to its largest entry
SWEEPS = 1000
STEP = 1.4  # between the λ of a path
PATH_SWEEPS = 60  # of each step of a path: nearly collinear columns converge slowly; the next step continues
PATH_TOLERANCE = 1e-5
REFINE = 12  # bisections at the end of a path
LEAST = 1e-4  # λ at the start of a path, relative to the λ that makes β zero; or α


@dataclass(frozen=True, eq=False)
class Problem:
    """gram G [D, D], target c [D] and similarity R [D, D], the last with a zero diagonal."""

    gram: Tensor
    target: Tensor
    similarity: Tensor

    @property
    def largest_penalty(self) -> float:
        """The smallest λ at which β = 0 is the only solution, whatever α is."""
        return float(self.target.abs().max())


@dataclass(frozen=True, eq=False)
class Solution:
    """β [D], the λ and α it belongs to, the sweeps it took and whether they converged."""

    beta: Tensor
    penalty: float
    alpha: float
    sweeps: int
    converged: bool

    @property
    def support(self) -> Tensor:
        """The indices of the neurons that are kept, ascending."""
        return self.beta.nonzero()[:, 0]


def similarity(gram: Tensor) -> Tensor:
    """R of equation 7 from G [D, D]: |r| / (1 − |r|) off the diagonal, r the columns' correlation, 0 on it.

    Equal columns, whose similarity would be infinite, have 1e12: then either of the two is dropped. A column
    without any spread is similar to none.
    """
    spread = gram.diagonal().clamp(min=0).sqrt()
    inverse = torch.where(spread > 0, 1 / spread, 0)
    r = (gram * inverse[:, None] * inverse).abs().clamp(max=1)
    return (r / (1 - r)).clamp(max=LARGEST).fill_diagonal_(0)


def descend(
    problem: Problem,
    penalty: float,
    alpha: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
    sweeps: int = SWEEPS,
) -> Solution:
    """β by cyclic coordinate descent from `start` (ones by default, as step 1 says), each coordinate by lemma 2.1:

        β_j = S(c_j − Σ_{i≠j} G_ji β_i, λ(1 + α Σ_{i≠j} R_ji |β_i|)) / (G_jj + αλR_jj)

    which is equation 8 for G = 1 (Algorithms 1 and 2) and equation 9 for standardised T (Algorithm 3). The
    gradient is kept up to date, so that a coordinate costs nothing unless it moves; between full sweeps only the
    coordinates that aren't zero are visited. A coordinate whose column is all zero is set to zero.
    """
    size = len(problem.target)
    beta = np.ones(size) if start is None else start.double().numpy().copy()
    state = _State(problem, penalty, alpha, beta)
    everyone = list(range(size))
    done = 0
    while done < sweeps:
        moved = state.sweep(everyone)
        done += 1
        if moved <= tolerance * state.largest:
            return Solution(torch.from_numpy(state.vector()), penalty, alpha, done, True)
        active = [j for j in everyone if state.beta[j] != 0]
        while done < sweeps and moved > tolerance * state.largest:
            moved = state.sweep(active)
            done += 1
    return Solution(torch.from_numpy(state.vector()), penalty, alpha, done, False)


class _State:
    """β with Gβ − c and R|β|, which every step of a coordinate updates."""

    def __init__(self, problem: Problem, penalty: float, alpha: float, beta: Vector) -> None:
        self.gram: Vector = np.ascontiguousarray(problem.gram.double().numpy())
        self.similarity: Vector = np.ascontiguousarray(problem.similarity.double().numpy())
        self.coupled = alpha * penalty != 0
        self.penalty, self.coupling = penalty, alpha * penalty
        self.beta: list[float] = beta.tolist()
        self.diagonal: list[float] = self.gram.diagonal().tolist()
        self.gradient: Vector = self.gram @ beta - problem.target.double().numpy()
        self.near: Vector = self.similarity @ np.abs(beta)
        self.scratch: Vector = np.empty_like(beta)

    @property
    def largest(self) -> float:
        return max(map(abs, self.beta), default=0.0)

    def vector(self) -> Vector:
        return np.array(self.beta)

    def sweep(self, coordinates: list[int]) -> float:
        """Minimise over one coordinate after the other; the largest step."""
        beta, diagonal, gradient, near, scratch = (
            self.beta, self.diagonal, self.gradient, self.near, self.scratch,
        )  # fmt: skip
        widest = 0.0
        for j in coordinates:
            old, curvature = beta[j], diagonal[j]
            pull = curvature * old - float(gradient[j])
            excess = abs(pull) - self.penalty
            if self.coupled:
                excess -= self.coupling * float(near[j])
            new = 0.0
            if excess > 0 and curvature > 0:
                new = excess / curvature if pull > 0 else -excess / curvature
            step = new - old
            if step == 0:
                continue
            beta[j] = new
            np.multiply(self.gram[j], step, out=scratch)
            np.add(gradient, scratch, out=gradient)
            if self.coupled:
                np.multiply(self.similarity[j], abs(new) - abs(old), out=scratch)
                np.add(near, scratch, out=near)
            widest = max(widest, abs(step))
        return widest


Enough = Callable[[Tensor], bool]  # of β


def ascend(problem: Problem, alpha: float, enough: Enough, start: Tensor | None = None) -> Solution:
    """The largest λ found whose β still satisfies `enough`, on a path of rising λ with warm starts.

    The path leads from everything kept to nothing kept (He, Zhang and Sun, arXiv 1707.06168, raise λ likewise), so
    that the most similar neurons leave first. When not even the smallest λ satisfies, that one's solution is returned.
    """
    top = problem.largest_penalty

    def at(penalty: float, start: Tensor | None) -> Solution:
        return descend(problem, penalty, alpha, start, PATH_TOLERANCE, PATH_SWEEPS)

    return _climb(at, LEAST * top, top, enough, start)


def ascend_alpha(problem: Problem, penalty: float, enough: Enough) -> Solution:
    """As `ascend`, on a path of rising α at one λ: for the diagonal G of Algorithms 1 and 2.

    There β = (1 − λ)γ with γ_j = (1 − λα Σ R_jc γ_c)₊, so that the support depends on the product λα alone, and λ < 1
    can raise it to α at most. Raising α instead reaches every width, and leaves the β that stay well away from 0.
    """

    def at(alpha: float, start: Tensor | None) -> Solution:
        return descend(problem, penalty, alpha, start, PATH_TOLERANCE, PATH_SWEEPS)

    return _climb(at, LEAST, LARGEST, enough, None)


def _climb(
    at: Callable[[float, Tensor | None], Solution],
    low: float,
    high: float,
    enough: Enough,
    start: Tensor | None,
) -> Solution:
    """Rise by STEP from `low` until not `enough`, at most to `high`; then bisect."""
    last = at(low, start)
    if not enough(last.beta):
        return last
    failed = high
    while low < high:
        step = min(high, low * STEP)
        found = at(step, last.beta)
        if not enough(found.beta):
            failed = step
            break
        low, last = step, found
    for _ in range(REFINE):
        middle = (low * failed) ** 0.5
        found = at(middle, last.beta)
        if enough(found.beta):
            low, last = middle, found
        else:
            failed = middle
    return last


def chosen(found: Solution, width: int) -> Tensor:
    """The `width` neurons of largest |β|, ascending; where fewer aren't zero, the first of the others with them."""
    return torch.argsort(found.beta.abs(), descending=True, stable=True)[:width].sort().values
