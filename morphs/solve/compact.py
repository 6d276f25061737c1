"""Which neurons of a new layer are kept, and with what outgoing weights (CompNet, Algorithms 1–3).

Everything is read off streamed products, never off rows. D neurons, B columns of A_new for each (the taps of the next
kernel, or the positions of a flattened map), D₂ outputs. Weights W_new2 are [D·B, D₂], neuron by neuron.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from morphs.solve.iilasso import Problem, Solution, ascend, ascend_alpha, chosen, descend, similarity
from morphs.solve.least_squares import residual, solve

PENALTY = 0.1  # λ where α is looked for: the paper's
LARGEST_FACTOR = 10.0  # of W_new1 in Algorithm 2


class AllDropped(Exception):
    """λ leaves no neuron; its argument is the λ from which that is so whatever α is."""


class ErrorTooSmall(Exception):
    """Not even all neurons keep the error that was asked for."""


@dataclass(frozen=True)
class Aim:
    """How many neurons are kept: what λ = `penalty` leaves, or `width`, or what a relative `error` needs.

    α weighs the similarity; `ridge` is relative to the columns' mean square.
    """

    penalty: float | None
    width: int | None
    error: float | None
    alpha: float
    ridge: float


@dataclass(frozen=True, eq=False)
class Products:
    """Of A_new and O(2)′: AᵀA/N [D·B, D·B], AᵀO/N [D·B, D₂], ‖O‖²/N, and D."""

    inner: Tensor
    cross: Tensor
    square: float
    neurons: int

    def fit(self, kept: Tensor | None, ridge: float) -> Tensor:
        """W_new2 [M·B, D₂] by (ridge) least squares (equation 11) on the kept neurons [M], or on all."""
        columns = slice(None) if kept is None else self.columns(kept)
        return solve(self.inner[columns][:, columns], self.cross[columns], ridge)

    def error(self, kept: Tensor, weight: Tensor) -> float:
        """‖O − AW‖ / ‖O‖ for W [M·B, D₂] on the kept neurons [M]."""
        columns = self.columns(kept)
        return residual(self.inner[columns][:, columns], self.cross[columns], self.square, weight)

    def columns(self, kept: Tensor) -> Tensor:
        """The columns of A_new that belong to the kept neurons."""
        block = len(self.inner) // self.neurons
        return (kept[:, None] * block + torch.arange(block)).flatten()


def by_inputs(spread: Tensor) -> Problem:
    """Equation 6, of Algorithms 1 and 2, from the covariance of X = O_new [D, D].

    X is standardised (mean 0, XᵀX = N), and column i is regressed on itself alone: hence G = 1 and c = 1, and the
    neurons know of each other by R only. A constant neuron has G = c = 0 and is dropped.
    """
    live = (spread.diagonal() > spread.diagonal().max() * 1e-12).double()
    return Problem(torch.diag(live), live, similarity(spread * live * live[:, None]))


def by_outputs(products: Products, weight: Tensor) -> tuple[Problem, Tensor]:
    """Equation 4, of Algorithm 3, and the factor [D] by which its β must be multiplied to scale T_i.

    T_i = A_i W_i,: has D₂ columns a row and is never built: (vec T_i)ᵀ vec T_j is the sum of a block of AᵀA ∘ WWᵀ.
    T_i and O are standardised to mean square 1 over all N·D₂ numbers.
    """
    size, block, outs = products.neurons, len(products.inner) // products.neurons, products.cross.shape[1]
    inner = (products.inner * (weight @ weight.T)).reshape(size, block, size, block).sum((1, 3)) / outs
    cross = (products.cross * weight).reshape(size, block, outs).sum((1, 2)) / outs
    spread = inner.diagonal().clamp(min=0).sqrt()
    spread = torch.where(spread > spread.max() * 1e-12, spread, 0)
    inverse = torch.where(spread > 0, 1 / spread, 0)
    level = (products.square / outs) ** 0.5 or 1.0
    gram = inner * inverse[:, None] * inverse
    return Problem(gram, cross * inverse / level, similarity(gram)), inverse * level


def sparsest(
    problem: Problem, aim: Aim, start: Tensor | None, products: Products | None, diagonal: bool = False
) -> tuple[Tensor, Solution]:
    """The kept neurons, ascending, and the solution, for whichever aim is set. `products`: for an error only.

    A width or an error is reached along a path of λ; for the diagonal problem of Algorithms 1 and 2, of α.
    Raises ErrorTooSmall where not even all neurons keep the error, AllDropped where λ leaves none.
    """
    if aim.penalty is not None:
        found = descend(problem, aim.penalty, aim.alpha, start)
        if not bool(found.beta.any()):
            raise AllDropped(problem.largest_penalty)
        return found.support, found

    def precise(kept: Tensor) -> bool:
        assert products is not None
        assert aim.error is not None
        return products.error(kept, products.fit(kept, aim.ridge)) <= aim.error

    def enough(beta: Tensor) -> bool:
        kept = beta.nonzero()[:, 0]
        return len(kept) >= aim.width if aim.width is not None else precise(kept)

    everyone = torch.arange(len(problem.target))
    if aim.width is None and not precise(everyone):
        raise ErrorTooSmall
    found = ascend_alpha(problem, PENALTY, enough) if diagonal else ascend(problem, aim.alpha, enough, start)
    if aim.width is not None:
        return chosen(found, aim.width), found
    return (found.support if enough(found.beta) else everyone), found


def reweigh(problem: Problem, first: Solution, rounds: int = 10) -> tuple[Solution, Tensor]:
    """Step 5 of Algorithm 2 after its first β: the last β, and the factors [D] that step 5.2 puts on W_new1.

    The target O_new is A₁W⁰ and stays, so the minimiser of equation 1 over column i is W⁰_i / β_i, whatever A₁ is
    (with singular A₁ᵀA₁, the one that stays nearest). Then X_i = O_i / β_i fits without error, and the next 5.1
    only shrinks β a little further: nothing more is dropped, and the loop ends. Factors are kept below 10, lest a
    neuron that is nearly dropped saturates φ.
    """
    found = first
    for _ in range(rounds):
        kept = found.beta != 0
        scale = torch.where(kept, 1 / torch.where(kept, found.beta, 1), 0)
        gram = torch.diag(problem.gram.diagonal() * scale.square())
        again = Problem(gram, problem.target * scale, problem.similarity)
        found = descend(again, first.penalty, first.alpha, found.beta)
        if bool(((found.beta != 0) == kept).all()):
            break
    kept = found.beta != 0
    return found, torch.where(kept, 1 / torch.where(kept, found.beta, 1), 0).clamp(max=LARGEST_FACTOR)
