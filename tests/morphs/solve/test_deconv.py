"""Deconvolution against dense least squares, and composition against conv2d."""

import pytest
import torch
from torch.nn.functional import conv2d

from morphs.solve.deconv import REFINED, compose, deconv
from morphs.solve.factor import CONDITION


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kernel", [(2, 3), (1, 1), (1, 3)])
def test_compose_is_two_convolutions_one_after_the_other(kernel):
    first, second, x = rand(4, 3, 3, 2), rand(5, 4, *kernel, seed=1), rand(2, 3, 9, 8, seed=2)
    assert torch.allclose(conv2d(conv2d(x, first), second), conv2d(x, compose(first, second)))


def dense(known: torch.Tensor, rows: int, kernel: tuple[int, int]) -> torch.Tensor:
    """The undecoupled system, column by column: what every unit solution composes to."""
    count = rows * len(known) * kernel[0] * kernel[1]
    units = torch.eye(count, dtype=torch.float64).reshape(-1, rows, len(known), *kernel)
    return torch.stack([compose(known, unit).flatten() for unit in units], 1)


SYSTEMS = [  # known, kernel: more unknowns than equations, fewer, axes along which positions decouple
    ((40, 2, 3, 3), (1, 1)), ((40, 2, 3, 3), (2, 2)), ((40, 2, 3, 3), (3, 3)), ((40, 2, 3, 3), (1, 3)),
    ((3, 3, 3, 3), (3, 3)), ((2, 3, 2, 3), (3, 1)), ((5, 4, 1, 1), (3, 2)), ((4, 5, 1, 1), (2, 2)),
    ((7, 3, 1, 3), (3, 2)), ((7, 3, 3, 1), (2, 4)), ((2, 4, 3, 2), (1, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "kernel"), SYSTEMS)
def test_deconv_is_the_dense_least_squares_solution_of_least_norm(shape, kernel):
    known, rows = rand(*shape), 3
    target = rand(rows, shape[1], *(a + b - 1 for a, b in zip(shape[2:], kernel, strict=True)), seed=1)
    found, condition = deconv(known, target, kernel)
    system = dense(known, rows, kernel)
    expected = torch.linalg.lstsq(system, target.flatten(), driver="gelsd").solution
    assert torch.allclose(found.flatten(), expected, atol=1e-11)
    exact = float(torch.linalg.cond(system))
    assert 0.5 * exact <= condition <= 1.01 * exact


@pytest.mark.parametrize(("channels", "refined"), [(60, False), (13, True)])
def test_the_solution_leaves_only_rounding_refined_where_that_gains_anything(channels, refined):
    known, target = rand(channels, 4, 3, 3), rand(5, 4, 5, 5, seed=1)
    found, condition = deconv(known, target, (3, 3))
    assert (condition > REFINED) is refined
    assert float((compose(known, found) - target).abs().max()) < 1e-14 * float(target.abs().max())


def test_a_singular_system_is_solved_by_singular_values_when_small():
    known = rand(30, 2, 3, 3)
    known[:, 1] = known[:, 0]
    found, condition = deconv(known, rand(4, 2, 4, 4), (2, 2))
    system = dense(known, 4, (2, 2))
    expected = torch.linalg.lstsq(system, rand(4, 2, 4, 4).flatten(), driver="gelsd", rcond=1e-10).solution
    assert torch.allclose(found.flatten(), expected, atol=1e-11)
    assert condition < 100
    same = rand(4, 1, 4, 4).expand(4, 2, 4, 4)  # a target in its range has a solution
    assert torch.allclose(compose(known, deconv(known, same, (2, 2))[0]), same, atol=1e-12)


def test_a_large_singular_system_is_called_so():
    known = rand(700, 2, 1, 1)
    known[:, 1] = known[:, 0]
    assert deconv(known, rand(4, 2, 1, 1), (1, 1))[1] == float("inf")


def test_counting_is_necessary_and_not_sufficient():
    """C₋ = 1, C = 2, K1 = 3, K2 = 5: 50 unknowns, 49 equations, rank 41."""
    known = rand(2, 1, 3, 3)
    assert int(torch.linalg.matrix_rank(dense(known, 1, (5, 5)))) == 41
    target = rand(1, 1, 7, 7)
    found, _ = deconv(known, target, (5, 5))
    assert float((compose(known, found) - target).abs().max()) > 0.1


def test_square_systems_are_ill_conditioned_and_half_as_many_unknowns_more_are_not():
    square = [deconv(rand(25, 9, 3, 3, seed=seed), rand(1, 9, 5, 5), (3, 3))[1] for seed in range(8)]
    wider = [deconv(rand(38, 9, 3, 3, seed=seed), rand(1, 9, 5, 5), (3, 3))[1] for seed in range(8)]
    assert sorted(square)[4] > CONDITION
    assert max(wider) < 50
