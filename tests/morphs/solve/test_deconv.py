"""The solver against dense least squares and conv2d, at borders too; refusals that name channels that work."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from morphs.errors import NoFactoring
from morphs.solve.deconv import CONDITION, RESIDUAL, compose, deconv, factor


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def padded(g: torch.Tensor, one: tuple[int, int], two: tuple[int, int]) -> torch.Tensor:
    side = [(a + b - 1 - k) // 2 for a, b, k in zip(one, two, g.shape[2:], strict=True)]
    return torch.nn.functional.pad(g, (side[1], side[1], side[0], side[0]))


def test_compose_is_two_convolutions_one_after_the_other():
    first, second, x = rand(4, 3, 3, 2), rand(5, 4, 2, 3, seed=1), rand(2, 3, 9, 8, seed=2)
    assert torch.allclose(conv2d(conv2d(x, first), second), conv2d(x, compose(first, second)))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (1, 3)])
def test_deconv_is_the_least_norm_solution_of_the_dense_system(kernel):
    known, a = rand(40, 2, 3, 3), 4
    target = rand(a, 2, 3 + kernel[0] - 1, 3 + kernel[1] - 1, seed=1)
    found, condition = deconv(known, target, kernel)
    # the undecoupled system, column by column: what every unit solution composes to
    units = torch.eye(a * 40 * kernel[0] * kernel[1], dtype=torch.float64).reshape(-1, a, 40, *kernel)
    dense = torch.stack([compose(known, unit).flatten() for unit in units], 1)
    expected = torch.linalg.lstsq(dense, target.flatten(), driver="gelsd").solution.reshape(a, 40, *kernel)
    assert torch.allclose(found, expected, atol=1e-10)
    assert float((compose(known, found) - target).abs().max()) < 1e-12
    exact = float(torch.linalg.cond(dense))
    assert 0.5 * exact <= condition <= 1.01 * exact


def test_deconv_says_when_there_are_too_few_unknowns_or_the_system_is_singular():
    assert deconv(rand(2, 3, 3, 3), rand(4, 3, 5, 5), (3, 3))[1] == float("inf")
    known = rand(30, 2, 1, 1)
    known[:, 1] = known[:, 0]
    assert deconv(known, rand(4, 2, 1, 1), (1, 1))[1] > CONDITION


CASES = [  # outs, ins, kernel, channels, K1, K2
    (6, 4, (3, 3), 6, (3, 3), (1, 1)),
    (6, 4, (3, 3), 4, (1, 1), (3, 3)),
    (6, 4, (3, 3), 9, (3, 3), (3, 3)),
    (6, 4, (3, 3), 40, (3, 3), (3, 3)),
    (6, 4, (5, 5), 60, (3, 3), (3, 3)),
    (3, 7, (5, 5), 40, (3, 3), (3, 3)),
    (5, 3, (3, 1), 5, (3, 3), (1, 1)),
    (4, 4, (1, 1), 9, (3, 3), (3, 3)),
    (4, 4, (3, 3), 8, (5, 3), (1, 3)),
    (4, 4, (4, 4), 8, (4, 4), (3, 3)),
    (10, 4, (1, 1), 8, (1, 1), (1, 1)),
    (10, 4, (1, 1), 4, (1, 1), (1, 1)),
    (4, 10, (1, 1), 4, (1, 1), (1, 1)),
    (9, 1, (2, 2), 7, (2, 2), (1, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_factors_compose_to_the_padded_kernel_with_equal_spread(case):
    outs, ins, kernel, channels, one, two = case
    g = rand(outs, ins, *kernel)
    found = factor(g, channels, one, two, seeded())
    assert found.first.shape == (channels, ins, *one)
    assert found.second.shape == (outs, channels, *two)
    assert found.residual <= 2 * RESIDUAL
    assert torch.allclose(compose(found.first, found.second), padded(g, one, two), atol=1e-11)
    assert float(found.first.std(correction=0)) == pytest.approx(float(found.second.std(correction=0)))
    assert found.spread == pytest.approx(float(found.first.std(correction=0) / g.std(correction=0)))


def test_the_whole_kernel_is_filled_where_condition_7_allows():
    found = factor(rand(4, 4, 3, 3), 16, (3, 3), (3, 3), seeded())
    assert found.support == ((3, 3), (3, 3))
    shrunk = factor(rand(4, 4, 3, 3), 4, (3, 3), (3, 3), seeded())
    assert shrunk.support == ((3, 3), (1, 1))


def test_factors_survive_float32_because_ill_conditioned_ones_are_not_used():
    for seed in range(5):
        g = rand(4, 4, 3, 3, seed=seed)
        found = factor(g, 12, (3, 3), (3, 3), seeded(seed))
        product = compose(found.first.float().double(), found.second.float().double())
        assert float((product - padded(g, (3, 3), (3, 3))).abs().max() / g.abs().max()) < 1e-5


def test_low_rank_kernels_need_no_more_channels_than_their_rank():
    g = torch.einsum("or,rikl->oikl", rand(8, 2), rand(2, 6, 3, 3, seed=1))
    assert factor(g, 2, (3, 3), (1, 1), seeded()).residual <= 2 * RESIDUAL
    with pytest.raises(NoFactoring, match="use 2 channels"):
        factor(g, 1, (3, 3), (1, 1), seeded())


def test_a_zero_kernel_factors():
    assert factor(torch.zeros(3, 3, 3, 3), 4, (3, 3), (3, 3), seeded()).residual == 0


@pytest.mark.parametrize(
    "case",
    [
        (6, 8, (3, 3), 2, (3, 3), (1, 1)), (8, 6, (5, 5), 3, (3, 3), (3, 3)), (1, 1, (7, 7), 2, (3, 3), (5, 5)),
        (5, 5, (1, 1), 2, (1, 1), (1, 1)),
    ],
)  # fmt: skip
def test_a_refusal_names_channels_that_work(case):
    outs, ins, kernel, channels, one, two = case
    g = rand(outs, ins, *kernel)
    with pytest.raises(NoFactoring) as caught:
        factor(g, channels, one, two, seeded())
    works = int(re.search(r"use (\d+) channels", str(caught.value))[1])
    assert works > channels
    for more in (works, works + 1):
        assert factor(g, more, one, two, seeded(5)).residual <= 2 * RESIDUAL


@given(
    outs=st.integers(1, 5), ins=st.integers(1, 5), channels=st.integers(1, 12), seed=st.integers(0, 99),
    shapes=st.sampled_from([
        ((3, 3), (3, 3), (1, 1)), ((3, 3), (1, 1), (3, 3)), ((3, 3), (3, 3), (3, 3)), ((2, 2), (2, 2), (1, 3)),
        ((1, 1), (1, 1), (1, 1)),
    ]),
)  # fmt: skip
def test_what_is_returned_is_exact_and_what_must_exist_is_found(outs, ins, channels, seed, shapes):
    kernel, one, two = shapes
    g = rand(outs, ins, *kernel, seed=seed)
    enough = (one >= kernel and channels >= min(outs, ins * kernel[0] * kernel[1])) or (
        two >= kernel and channels >= min(ins, outs * kernel[0] * kernel[1])
    )
    try:
        found = factor(g, channels, one, two, seeded(seed))
    except NoFactoring:
        assert not enough
        return
    assert torch.allclose(compose(found.first, found.second), padded(g, one, two), atol=1e-10)
