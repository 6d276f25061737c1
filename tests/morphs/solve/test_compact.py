"""CompNet's regressions read off products against the rows they stand for."""

import torch

from morphs.solve.compact import Products, by_inputs, by_outputs, reweigh
from morphs.solve.iilasso import descend, similarity
from morphs.solve.least_squares import Moments

N, NEURONS, BLOCK, OUTS = 50, 6, 4, 3


def drawn():
    g = torch.Generator().manual_seed(3)
    a = torch.randn(N, NEURONS * BLOCK, generator=g, dtype=torch.float64).relu()
    return a, torch.randn(N, OUTS, generator=g, dtype=torch.float64) + a[:, :OUTS]


def test_algorithm_3_is_the_lasso_on_the_columns_it_never_builds():
    a, o = drawn()
    products = Products(*Moments.of(a, o).products(centred=True), NEURONS)
    w = products.fit(None, 0.0)
    problem, factor = by_outputs(products, w)
    a, o = a - a.mean(0), o - o.mean(0)
    t = torch.stack([
        (a[:, i * BLOCK : (i + 1) * BLOCK] @ w[i * BLOCK : (i + 1) * BLOCK]).flatten()
        for i in range(NEURONS)
    ]).T  # fmt: skip
    spread, level = t.square().mean(0).sqrt(), o.square().mean().sqrt()
    x, y = t / spread, o.flatten() / level
    assert torch.allclose(problem.gram, x.T @ x / len(x))
    assert torch.allclose(problem.target, x.T @ y / len(x))
    assert torch.allclose(problem.similarity, similarity(x.T @ x))
    beta = descend(problem, 0.05, 0.1).beta
    assert torch.allclose(t @ (beta * factor), x @ beta * level)  # the factor scales T itself


def test_error_and_fit_of_some_neurons_are_those_of_their_columns():
    a, o = drawn()
    products = Products(*Moments.of(a, o).products(centred=False), NEURONS)
    kept = torch.tensor([1, 4])
    columns = a[:, products.columns(kept)]
    w = products.fit(kept, 0.0)
    assert torch.allclose(w, torch.linalg.lstsq(columns, o).solution)
    assert abs(products.error(kept, w) - float((o - columns @ w).norm() / o.norm())) < 1e-9


def test_algorithm_2_undoes_its_beta_and_keeps_algorithm_1s_neurons():
    """§2.5: the minimiser over W_new1 is W / β, after which X fits O without error and β only shrinks."""
    x = drawn()[0][:, :8]
    x[:, 5] = 0  # constant
    problem = by_inputs(x.T.cov())
    first = descend(problem, 0.1, 0.1)
    last, scale = reweigh(problem, first)
    assert torch.equal(last.beta != 0, first.beta != 0)
    assert float(last.beta[5]) == 0
    assert float(scale[5]) == 0
    live = last.beta != 0
    assert torch.allclose((scale * last.beta)[live], torch.ones(7, dtype=torch.float64))
    assert bool((last.beta <= first.beta).all())
