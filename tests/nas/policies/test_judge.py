"""The paired test against SciPy."""

from dataclasses import replace

import numpy as np
import pytest
from engine_support import record_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from search_support import SEED

from nas.base.errors import LedgerDamaged
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.sample import sample_of
from nas.policies.hill_climb import HillClimb
from nas.policies.judge import advantage


def judged(key: str, losses: np.ndarray, hits: np.ndarray, kind: str = "child") -> TrialRecord:
    generation, slot = map(int, key.split("."))
    record = record_of(
        Job(kind, generation, slot, None, "", 0, 1, SEED.to_json()), float(hits.mean()), float(losses.mean())
    )
    assert record.result is not None
    return replace(record, result=replace(record.result, sample=sample_of(losses, hits).to_text()))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(20, 1500))
def test_it_is_the_paired_t_test(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    base = draw.exponential(1.0, count)
    pair = [
        (np.float16(base + draw.normal(0.5, 0.2, count)).astype(float), draw.random(count) < 0.6)
        for _ in "ab"
    ]
    one, other = (judged(f"1.{slot}", *facts) for slot, facts in enumerate(pair))
    for select, column, sign in (("loss", 0, -1), ("accuracy", 1, 1)):
        found = advantage(one, other, select)  # type: ignore[arg-type]
        assert found is not None
        a, b = (facts[column].astype(float) for facts in pair)
        oracle = stats.ttest_rel(sign * a, sign * b)
        assert found.mean == pytest.approx((sign * (a - b)).mean())
        assert found.mean / found.error == pytest.approx(oracle.statistic, rel=1e-9)
        assert found.confidence == pytest.approx(stats.norm.cdf(abs(oracle.statistic)), abs=1e-9)


def test_outcomes_that_no_search_writes_are_damage() -> None:
    many, few = (judged(f"1.{n}", np.ones(n), np.ones(n) > 0) for n in (9, 4))
    assert few.result is not None
    other = replace(few, result=replace(few.result, sample="AAAA"))
    for one in (few, other):  # of another number of images, and of none
        for pair in ((many, one), (one, many)):
            with pytest.raises(LedgerDamaged, match=r"trial 1\.\d"):
                advantage(*pair, "loss")


def test_a_child_that_is_better_by_chance_does_not_replace_its_parent() -> None:
    draw = np.random.default_rng(0)
    hits = draw.random(1000) < 0.7
    few, many = hits.copy(), hits.copy()
    few[np.flatnonzero(~hits)[:1]] = True  # 1 image more: one standard error
    many[np.flatnonzero(~hits)[:40]] = True
    losses = draw.exponential(1.0, 1000)
    parent = judged("1.0", losses, hits, "parent")
    for better, margin, winner in ((few, 0.0, "1.1"), (few, 2.0, "1.0"), (many, 2.0, "1.1")):
        policy = HillClimb(None, 1, 1, margin=margin)  # type: ignore[arg-type]
        view = LedgerView((judged("0.0", losses, hits, "seed"), parent, judged("1.1", losses, better)))
        assert policy.incumbent(view).key == winner


def test_a_margin_below_0_lets_a_child_win_that_is_not_worse_by_more() -> None:
    hits = np.arange(1000) < 700
    worse = hits.copy()
    worse[:5] = False
    losses = np.ones(1000)
    view = LedgerView((judged("1.0", losses, hits, "parent"), judged("1.1", losses, worse)))
    assert HillClimb(None, 1, 1, margin=-3.0).incumbent(view).key == "1.1"  # type: ignore[arg-type]
    assert HillClimb(None, 1, 1, margin=-1.0).incumbent(view).key == "1.0"  # type: ignore[arg-type]


def test_trials_without_samples_are_ranked_as_they_are() -> None:
    trials = [
        record_of(Job("child", 1, slot, None, "", 0, 1, SEED.to_json()), 0.5 + slot / 10) for slot in (0, 1)
    ]
    assert advantage(trials[0], trials[1], "loss") is None
    assert HillClimb(None, 1, 1, margin=5.0).incumbent(LedgerView(tuple(trials))).key == "1.1"  # type: ignore[arg-type]
