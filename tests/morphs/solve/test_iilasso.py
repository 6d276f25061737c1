"""The independently interpretable Lasso against scikit-learn, its own definition, and the paper's lemma."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from morphs.solve.iilasso import LARGEST, Problem, ascend, ascend_alpha, chosen, descend, similarity


def loss(problem, beta, penalty, alpha):
    """What is minimised, without the constant ½‖y‖²/N."""
    size = beta.abs()
    sparse = size.sum() + alpha / 2 * (size @ problem.similarity @ size)
    return float(beta @ problem.gram @ beta / 2 - problem.target @ beta + penalty * sparse)


def drawn(rows: int = 80, size: int = 12, seed: int = 0, mixed: float = 0.5):
    """X with correlated columns, and y."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, size, generator=g, dtype=torch.float64)
    x = x + mixed * torch.randn(rows, 1, generator=g, dtype=torch.float64)
    y = x @ torch.randn(size, generator=g, dtype=torch.float64)
    return x, y + torch.randn(rows, generator=g, dtype=torch.float64)


def problem(x, y) -> Problem:
    gram = x.T @ x / len(x)
    return Problem(gram, x.T @ y / len(x), similarity(gram))


@given(st.integers(0, 99), st.sampled_from([0.003, 0.03, 0.3, 3.0]), st.floats(0, 3))
def test_without_alpha_it_is_scikit_learns_lasso(seed, penalty, mixed):
    x, y = drawn(seed=seed, mixed=mixed)
    found = descend(problem(x, y), penalty, 0.0, tolerance=1e-10, sweeps=20000)
    oracle = Lasso(alpha=penalty, fit_intercept=False, tol=1e-10, max_iter=100000).fit(x.numpy(), y.numpy())
    assert found.converged
    assert np.abs(found.beta.numpy() - oracle.coef_).max() <= 1e-5 * max(1, np.abs(oracle.coef_).max())


@given(st.integers(0, 99), st.floats(0, 3), st.sampled_from([0.01, 0.1, 0.5]))
def test_each_coordinate_is_the_minimum_that_lemma_2_1_states(seed, alpha, penalty):
    x, y = drawn(seed=seed)
    p = problem(x, y)
    beta = descend(p, penalty, alpha, tolerance=1e-12, sweeps=20000).beta
    for j in range(len(beta)):
        pull = p.target[j] - p.gram[j] @ beta + p.gram[j, j] * beta[j]
        bound = penalty * (1 + alpha * (p.similarity[j] @ beta.abs()))  # R_jj = 0
        lemma = torch.sign(pull) * (pull.abs() - bound).clamp(min=0) / p.gram[j, j]
        assert abs(float(beta[j] - lemma)) <= 1e-8
        for step in (-1e-3, 1e-3):
            other = beta.clone()
            other[j] += step
            assert loss(p, other, penalty, alpha) >= loss(p, beta, penalty, alpha)


def test_the_diagonal_case_is_equation_8():
    """Algorithms 1 and 2: every column fits itself, so that only R couples them."""
    r = similarity(drawn(size=5, mixed=2)[0].T.cov())
    p = Problem(torch.eye(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64), r)
    beta = descend(p, 0.1, 0.1).beta
    assert bool(((beta > 0) & (beta < 1)).all())
    expected = (1 - 0.1 * (1 + 0.1 * r @ beta)).clamp(min=0)
    assert torch.allclose(beta, expected, atol=1e-6)


def test_similarity_is_equation_7():
    x = drawn(size=4)[0]
    r = np.abs(np.corrcoef(x.T.numpy()))
    np.fill_diagonal(r, 0)
    assert np.allclose(similarity(x.T.cov()).numpy(), r / (1 - r))
    twins = torch.stack([x[:, 0], 2 * x[:, 0], torch.zeros(len(x))]).cov()
    assert float(similarity(twins)[0, 1]) == LARGEST
    assert not bool(similarity(twins)[2].any())


def test_of_two_equal_columns_one_is_dropped():
    x, y = drawn(size=6)
    x[:, 3] = x[:, 1]
    beta = descend(problem(x, y), 0.01, 1.0).beta
    assert (beta[1] == 0) != (beta[3] == 0)


def test_above_the_largest_penalty_nothing_is_left():
    x, y = drawn()
    p = problem(x, y)
    for alpha in (0.0, 1.0):
        assert not bool(descend(p, p.largest_penalty, alpha).beta.any())
    assert bool(descend(p, 0.99 * p.largest_penalty, 0.0).beta.any())


def test_a_path_with_warm_starts_ends_where_a_cold_start_does():
    x, y = drawn()
    p = problem(x, y)
    found = ascend(p, 0.0, lambda beta: int(beta.count_nonzero()) >= 4)
    assert int(found.beta.count_nonzero()) >= 4
    assert torch.allclose(found.beta, descend(p, found.penalty, 0.0, tolerance=1e-11).beta, atol=1e-3)
    more = descend(p, 1.01 * found.penalty, 0.0)
    assert int(more.beta.count_nonzero()) <= 4


@pytest.mark.parametrize("width", [1, 5, 12])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 5.0])
def test_a_width_is_met_exactly(width, alpha):
    p = problem(*drawn())
    for found in (
        ascend(p, alpha, lambda beta: int(beta.count_nonzero()) >= width),
        ascend_alpha(diagonal(p), 0.1, lambda beta: int(beta.count_nonzero()) >= width),
    ):
        kept = chosen(found, width).tolist()
        assert len(set(kept)) == width
        assert kept == sorted(kept)
        assert bool((found.beta[kept] != 0).all())


def diagonal(p: Problem) -> Problem:
    return Problem(torch.eye(12, dtype=torch.float64), torch.ones(12, dtype=torch.float64), p.similarity)


@pytest.mark.parametrize("product", [0.01, 0.1])
def test_where_every_column_fits_itself_only_the_product_of_lambda_and_alpha_matters(product):
    p = diagonal(problem(*drawn(mixed=3)))
    one, two = (descend(p, penalty, product / penalty, tolerance=1e-12) for penalty in (0.1, 0.7))
    assert torch.equal(one.support, two.support)
    assert torch.allclose(one.beta / 0.9, two.beta / 0.3, atol=1e-6)


def test_a_column_without_spread_stays_out():
    x, y = drawn(size=5)
    x[:, 2] = 0
    assert 2 not in chosen(ascend(problem(x, y), 0.1, lambda b: int(b.count_nonzero()) >= 4), 4).tolist()
    assert float(descend(problem(x, y), 0.0, 0.1).beta[2]) == 0
