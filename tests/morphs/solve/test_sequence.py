"""Sequences and sums of sequences against plain composition."""

from functools import reduce

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from morphs.errors import NoFactoring
from morphs.solve.deconv import compose
from morphs.solve.sequence import centred, composite, factor_sequence, surely_holds
from morphs.solve.split import factor_sum, fitting

sizes = st.sampled_from((1, 3, 5))
kernels = st.tuples(sizes, sizes)
widths = st.integers(1, 9)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(filters: list[torch.Tensor], ins: int) -> torch.Tensor:
    identity = torch.eye(ins, dtype=torch.float64)[:, :, None, None]
    return reduce(compose, filters, identity)


def error(filters: list[torch.Tensor], goal: torch.Tensor) -> float:
    """Of the composite, relative to the largest entry."""
    found = product(filters, goal.shape[1])
    return float((found - centred(goal, tuple(found.shape[2:]))).abs().max() / goal.abs().max())


@given(
    goal=st.tuples(widths, widths, kernels),
    inner=st.lists(st.tuples(kernels, widths), min_size=1, max_size=3),
    last=kernels,
    seed=st.integers(0, 9),
)
@example(goal=(2, 1, (3, 1)), inner=[((1, 3), 2), ((3, 1), 2)], last=(1, 3), seed=1)  # room on one axis only
def test_what_surely_holds_any_filters_is_factored_with_small_numbers(goal, inner, last, seed):
    outs, ins, kernel = goal
    stages = [*inner, (last, outs)]
    target = noise(outs, ins, *kernel, seed=seed)
    if any(k > c for k, c in zip(kernel, composite([k for k, _ in stages]), strict=True)):
        return
    if surely_holds(outs, ins, kernel, stages):
        filters = factor_sequence(target, stages, torch.Generator().manual_seed(seed))
        assert [tuple(f.shape[2:]) for f in filters] == [k for k, _ in stages]
        assert [len(f) for f in filters] == [width for _, width in stages]
        assert error(filters, target) <= 1e-11
        assert error([f.float().double() for f in filters], target) <= 2e-5


@pytest.mark.parametrize(
    "paths", [[[((3, 3), 8), ((1, 1), 8), ((1, 1), 3)]], [[((3, 3), 9), ((1, 1), 3)], [((1, 1), 3)]]]
)
def test_outputs_of_zeros_stay_exactly_zero(paths):
    goal = noise(3, 4, 3, 3)
    goal[1] = 0
    for filters in factor_sum(goal, paths, torch.Generator().manual_seed(0)):
        assert not product(filters, 4)[1].any()


def test_a_sequence_that_is_not_sure_is_found_where_channels_are_many():
    target = noise(3, 2, 5, 5)
    stages = [((3, 3), 40), ((3, 3), 3)]
    assert not surely_holds(3, 2, (5, 5), stages)
    assert error(factor_sequence(target, stages, torch.Generator()), target) <= 1e-11
    with pytest.raises(NoFactoring, match=r" \d+ channels"):
        factor_sequence(target, [((3, 3), 4), ((3, 3), 3)], torch.Generator())
    with pytest.raises(NoFactoring, match=" 3 channels"):
        factor_sequence(target, [((5, 5), 1), ((1, 1), 6), ((1, 1), 3)], torch.Generator())
    with pytest.raises(NoFactoring, match=r"\(3, 3\).*\(5, 5\)"):
        factor_sequence(target, [((3, 3), 9), ((1, 1), 3)], torch.Generator())


def test_factors_have_one_spread_and_fill_their_kernels_where_channels_allow():
    filters = factor_sequence(noise(8, 8, 3, 3), [((3, 3), 32), ((3, 3), 32), ((1, 1), 8)], torch.Generator())
    spreads = [float(f.std(correction=0)) for f in filters]
    assert max(spreads) <= 1.0001 * min(spreads)
    assert all(bool((f != 0).all()) for f in filters)


PATHS = [
    [],
    [((1, 1), 5)],
    [((1, 1), 2), ((3, 3), 5)],
    [((3, 3), 5), ((1, 1), 5)],
    [((3, 3), 9), ((5, 5), 5)],
]


def test_a_sum_of_paths_is_the_whole_and_its_parts_differ():
    goal = noise(5, 5, 3, 3)
    filters = factor_sum(goal, PATHS, torch.Generator().manual_seed(1))
    parts = [centred(product(path, 5), (7, 7)) for path in filters]
    assert float((sum(parts) - centred(goal, (7, 7))).abs().max()) <= 1e-12
    assert torch.equal(product(filters[0], 5), torch.eye(5, dtype=torch.float64)[:, :, None, None])
    ratio = (parts[3] / parts[4])[:, :, 2:5, 2:5]
    assert float(ratio.std()) > 0.3, "the sure paths got equal shares"
    size = float(goal.square().mean().sqrt())
    assert float(parts[2].square().mean().sqrt()) * 7 / 3 == pytest.approx(size / 5)


def test_the_random_parts_fit_the_middle_of_the_whole():
    assert fitting([(3, 3), (5, 1)], (3, 3)) == [(3, 3), (1, 1)]
    assert fitting([(1, 1), (5, 5), (3, 3)], (3, 7)) == [(1, 1), (3, 5), (1, 3)]
    assert fitting([(2, 2), (3, 3)], (2, 4)) == [(2, 2), (1, 3)]
    with pytest.raises(NoFactoring, match=r"\(2, 2\).*\(3, 3\)"):
        fitting([(2, 2)], (3, 3))
