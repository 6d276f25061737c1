"""The outcome on single validation images."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.ledger.sample import MOST, sample_from, sample_of


@given(count=st.integers(1, 3 * MOST), seed=st.integers(0, 2**32 - 1))
def test_text_round_trip(count: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    losses, hits = draw.exponential(2.0, count), draw.random(count) < 0.7
    sample = sample_of(losses, hits)
    again = sample_from(sample.to_text())
    assert len(again.losses) == len(again.hits) <= MOST
    assert np.array_equal(again.losses, sample.losses)
    assert np.array_equal(again.hits, sample.hits)
    step = -(-count // MOST)
    np.testing.assert_allclose(again.losses.astype(float), losses[::step], rtol=1e-3, atol=1e-6)
    assert np.array_equal(again.hits, hits[::step])


def test_a_loss_beyond_16_bits_stays_finite() -> None:
    assert np.isfinite(sample_of(np.array([1e9]), np.array([False])).losses).all()


BOMB = base64.b64encode(zlib.compress(b"\0" * 10**7)).decode()
INFINITE = base64.b64encode(zlib.compress(b"\0\x7c\0")).decode()


@pytest.mark.parametrize("text", ["", "!", "AAAA", "eJwDAAAAAAE=x", "eJxjAAAAAQAB", "é", BOMB, INFINITE])
def test_what_is_not_a_sample(text: str) -> None:
    with pytest.raises(ValueError):
        sample_from(text)
