"""A budget counts from the start of the program, and what is begun must fit by the rate of now."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, record_of, tiny
from search_support import ROOT

from nas.base.errors import UserError
from nas.data import load_search_data
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Reached, TimeLeft
from nas.run.events import Silent
from nas.run.final_training import Timing, next_part
from nas.run.lifecycle import search
from nas.run.plan import make_plan
from nas.run.speed import CLOSING, closing_seconds, seconds_a_step, seconds_after


def trial(slot: int, seconds: float, finished: float) -> TrialRecord:
    job = replace(ROOT.job, kind="parent", generation=1, slot=slot, steps=10)
    return replace(record_of(job, 0.5, seconds=seconds), finished=finished)


def test_a_machine_that_became_busier_makes_steps_longer_and_a_faster_one_not_shorter() -> None:
    first, slow, fast = trial(0, 1.0, 10.0), trial(1, 3.0, 20.0), trial(2, 0.5, 30.0)
    assert seconds_a_step(LedgerView((first,)), first) == pytest.approx(0.1)
    assert seconds_a_step(LedgerView((first, slow)), first) == pytest.approx(0.3)
    assert seconds_a_step(LedgerView((first, slow, fast)), first) == pytest.approx(0.1)


def test_a_slow_start_keeps_more_for_the_end() -> None:
    assert closing_seconds(0.5, 60.0) == CLOSING
    assert closing_seconds(9.0, 60.0) == closing_seconds(9.0, None) == 9.0
    assert closing_seconds(30.0, 60.0) == 15.0


def test_a_start_that_took_most_of_the_budget_leaves_half_of_the_rest_for_training() -> None:
    of = trial(0, 1.0, 10.0)
    assert of.result is not None
    of = replace(of, result=replace(of.result, seconds={"train": 1.0, "evaluate": 0.0}))
    assert seconds_after(of, 30.0, 25.0, 6.0) == 3.0
    assert seconds_after(of, 30.0, 25.0, 20.0) == 6.25
    assert seconds_after(of, 30.0, 25.0, -1.0) == 0.0


def test_the_final_network_is_scored_on_the_test_split_too() -> None:
    of = trial(0, 1.0, 10.0)
    assert of.result is not None
    short, long = (replace(of.result, seconds={"train": 1.0, "evaluate": each}) for each in (0.0, 5.0))
    more = seconds_after(replace(of, result=long), 1.0, 600.0, 300.0)
    assert more - seconds_after(replace(of, result=short), 1.0, 600.0, 300.0) == 15.0


def test_later_parts_of_a_final_training_expect_the_speed_of_the_earlier_ones() -> None:
    of = trial(0, 1.0, 10.0)
    assert of.result is not None
    of = replace(of, result=replace(of.result, seconds={"train": 1.0, "evaluate": 0.5}))
    plan = make_plan(tiny(budget=600.0), load_search_data("digits", None, 3))
    job = replace(of.job, kind="final", generation=2, parent=of.key, steps=1000)
    digest, timing = "0" * 64, Timing(left=300.0)

    def left(seconds: float | None) -> TimeLeft:
        so_far = None if seconds is None else Reached(100, digest, digest, (), (), {"train": seconds})
        found = next_part(plan, LedgerView((of,)), job, so_far, timing).training.left
        assert found is not None
        return found

    first, faster, slower = left(None), left(5.0), left(40.0)
    assert [each.pace for each in (first, faster, slower)] == pytest.approx([0.1, 0.05, 0.4])
    assert faster.after == first.after == pytest.approx(slower.after / 4)


def test_a_budget_counts_what_the_program_took_before(tmp_path: Path) -> None:
    config = tiny(budget=40.0, generations=None, workers=1)
    with pytest.raises(UserError, match="budget"):
        search(config, tmp_path / "late", Silent(), "", Inline, began=time.monotonic() - 100.0)
    given: dict[str, Any] = {"began": time.monotonic() - 20.0}
    outcome = search(config, tmp_path / "run", Silent(), "", Inline, **given)
    assert 20.0 < outcome.seconds < 1.5 * config.budget
