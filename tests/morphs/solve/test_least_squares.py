"""Least squares from streamed products against torch's and scikit-learn's own solvers."""

import pytest
import torch
from sklearn.linear_model import Ridge

from morphs.solve.least_squares import Moments, gram, residual, solve


def drawn(rows: int = 60, columns: int = 9, outs: int = 3):
    g = torch.Generator().manual_seed(rows)
    a = torch.randn(rows, columns, generator=g, dtype=torch.float64) + 1
    return a, a @ torch.randn(columns, outs, generator=g, dtype=torch.float64) + torch.randn(
        rows, outs, generator=g, dtype=torch.float64
    )


def test_it_is_least_squares_streamed_or_whole():
    a, o = drawn()
    streamed = Moments.of(a[:7], o[:7]) + Moments.of(a[7:40], o[7:40]) + Moments.of(a[40:], o[40:])
    for moments in (streamed, Moments.of(a, o)):
        inner, cross, square = moments.products(centred=False)
        w = solve(inner, cross)
        assert torch.allclose(w, torch.linalg.lstsq(a, o).solution, atol=1e-9)
        left = float((o - a @ w).norm() / o.norm())
        assert abs(residual(inner, cross, square, w) - left) < 1e-9


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_centred_it_has_an_intercept(ridge):
    a, o = drawn()
    moments = Moments.of(a, o)
    inner, cross, _ = moments.products(centred=True)
    w = solve(inner, cross, ridge)
    level = float(inner.diagonal().mean())
    oracle = Ridge(alpha=ridge * level * len(a), tol=1e-12).fit(a.numpy(), o.numpy())
    assert torch.allclose(w.T, torch.from_numpy(oracle.coef_), atol=1e-8)
    assert torch.allclose(moments.offset(w), torch.from_numpy(oracle.intercept_), atol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 1e-6])
@pytest.mark.parametrize("rows", [60, 5])
def test_collinear_columns_and_too_few_rows_have_a_small_solution(rows, ridge):
    a, o = drawn(rows)
    a[:, 4] = a[:, 1]
    a[:, 6] = a[:, 1] - 2 * a[:, 2]
    a[:, 7] = 0
    inner, cross, _ = Moments.of(a, o).products(centred=False)
    w, least = solve(inner, cross, ridge), torch.linalg.pinv(a) @ o
    assert bool(torch.isfinite(w).all())
    assert torch.allclose(a @ w, a @ least, atol=1e-2 if ridge else 1e-6)
    if ridge == 0:
        assert torch.allclose(w, least, atol=1e-5)


def test_columns_of_zeros_have_weight_zero():
    a, o = torch.zeros(5, 3, dtype=torch.float64), torch.ones(5, 2, dtype=torch.float64)
    moments = Moments.of(a, o)
    w = solve(*moments.products(centred=True)[:2])
    assert not bool(w.any())
    assert torch.equal(moments.offset(w), o[0])


def test_the_gram_matrix_by_blocks_is_the_gram_matrix():
    a = torch.randn(20, 301, dtype=torch.float64)
    assert torch.allclose(gram(a), a.T @ a, atol=1e-12)
