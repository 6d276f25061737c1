"""The fit of `Compact`: from streamed rows to the kept neurons and both weights (CompNet, Algorithms 1–3).

D neurons before and M after, B columns of A_new for each, D₂ outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from morphs.moves.compact_rows import Rows
from morphs.solve.compact import Aim, Products, by_inputs, by_outputs, reweigh, sparsest
from morphs.solve.iilasso import Solution
from morphs.solve.least_squares import Moments


@dataclass(frozen=True, eq=False)
class Fitted:
    """W_new1 [M, …] of the kept neurons, W_new2 [M·B, D₂], L₂'s bias [D₂] if it has one, and what was found."""

    first: Tensor
    second: Tensor
    bias: Tensor | None
    notes: Mapping[str, float]


def fit(how: str, aim: Aim, refit: bool, rows: Rows, first: Tensor, generator: torch.Generator) -> Fitted:
    """`how` (see `Compact`) applied to W_new1 `first` [D, …]. Raises AllDropped, ErrorTooSmall; NeedsData."""
    if how in ("alg3", "contribution"):
        return _by_outputs(how, aim, refit, rows, first)
    return _by_inputs(how, aim, rows, first, generator)


def _by_inputs(how: str, aim: Aim, rows: Rows, first: Tensor, generator: torch.Generator) -> Fitted:
    """Choose neurons by W_new1 alone, then fit W_new2 on what is left."""
    notes: dict[str, float] = {}
    if how == "random" or aim.width == len(first):
        kept = torch.randperm(len(first), generator=generator)[: aim.width].sort().values
    elif how == "norm":
        kept = first.flatten(1).norm(dim=1).topk(aim.width or 0).indices.sort().values
    else:
        problem = by_inputs(rows.spread(first))
        full = None if aim.error is None else _products(rows, rows.moments(first), len(first))
        kept, found = sparsest(problem, aim, None, full, diagonal=True)
        notes = _found(found)
        if how == "alg2":
            found, scale = reweigh(problem, found)
            scale = torch.where(scale > 0, scale, 1)
            first = first * scale.to(first.dtype).reshape(-1, *[1] * (first.dim() - 1))
    first = first[kept]
    moments = rows.moments(first)
    products = _products(rows, moments, len(kept))
    second = products.fit(None, aim.ridge)
    error = products.error(torch.arange(len(kept)), second)
    bias = None if rows.bias is None else moments.offset(second)
    return Fitted(first, second, bias, notes | {"rows": moments.rows, "kept": len(kept), "error": error})


def _by_outputs(how: str, aim: Aim, refit: bool, rows: Rows, first: Tensor) -> Fitted:
    """Fit W_new2 on all neurons, then choose by what each contributes."""
    moments = rows.moments(first)
    products = _products(rows, moments, len(first))
    full = products.fit(None, aim.ridge)
    notes: dict[str, float] = {}
    kept, beta = torch.arange(len(first)), torch.ones(len(first), dtype=torch.float64)
    if aim.width != len(first):
        problem, factor = by_outputs(products, full)
        size = torch.where(factor > 0, 1 / torch.where(factor > 0, factor, 1), 0)  # of the standardised β = 1
        if how == "contribution":
            kept = size.topk(aim.width or 0).indices.sort().values
        else:
            kept, found = sparsest(problem, aim, size, products)
            beta = found.beta * factor
            notes = _found(found)
    columns = products.columns(kept)
    if refit or how == "contribution":
        second = products.fit(kept, aim.ridge)
    else:
        second = full[columns] * beta[kept].repeat_interleave(len(columns) // len(kept))[:, None]
    error = products.error(kept, second)
    bias = None if rows.bias is None else moments.offset(second, columns)
    notes |= {"rows": moments.rows, "kept": len(kept), "error": error}
    return Fitted(first[kept], second, bias, notes)


def _products(rows: Rows, moments: Moments, neurons: int) -> Products:
    return Products(*moments.products(centred=rows.bias is not None), neurons)


def _found(solution: Solution) -> dict[str, float]:
    return {
        "penalty": solution.penalty,
        "alpha": solution.alpha,
        "sweeps": solution.sweeps,
        "converged": solution.converged,
    }
