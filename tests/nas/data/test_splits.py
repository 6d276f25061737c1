"""Splits, statistics and digests."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data import Split
from nas.data.splits import generator_for, mean_std, stratified


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    seed=st.integers(0, 9),
    fraction=st.floats(0.01, 0.99),
)
def test_stratified_parts_every_class_at_the_fraction(labels, seed, fraction):
    tensor = torch.tensor(labels)
    kept, held = stratified(tensor, fraction, generator_for(seed, "x"))
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())
    for label in set(labels):
        count, taken = labels.count(label), int((tensor[held] == label).sum())
        assert taken <= max(count - 1, 0)
        if count > 1:
            assert taken >= 1
            assert abs(taken - fraction * count) <= 1
    again = stratified(tensor, fraction, generator_for(seed, "x"))
    assert torch.equal(kept, again[0])


def test_seeds_and_purposes_draw_apart():
    labels = torch.zeros(100, dtype=torch.int64)
    draws = {
        tuple(stratified(labels, 0.5, generator_for(seed, purpose))[1].tolist())
        for seed in range(4)
        for purpose in ("validation", "test")
    }
    assert len(draws) == 8


def test_mean_and_std_are_those_of_numpy():
    images = torch.randint(256, (30, 3, 7, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = mean_std(Split(images, torch.zeros(30, dtype=torch.int64)))
    scaled = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_has_a_harmless_std():
    _, std = mean_std(
        Split(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    )
    assert std == pytest.approx((1 / 255,))
