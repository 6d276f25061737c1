"""Real searches that are killed with kill −9 and resumed: a few kills by default, 300 when asked."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from faults import kills
from faults.figures import Report
from faults.kill_plans import PLANS, KillPlan
from faults.kill_state import State

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it finds processes as Linux does"
)
SIZE = ["--children", "1", "--generations", "2", "--epochs", "1", "--final-share", "0.1", "--workers", "2"]


@pytest.fixture
def plan(tmp_path: Path) -> KillPlan:
    """How kills.py treats a search, with its files in a folder of the test's."""
    return replace(PLANS["local"], folder=tmp_path)


def test_a_search_that_is_killed_loses_nothing_that_was_told(plan: KillPlan) -> None:
    state = State(SIZE, imports=1.0)
    expected = kills.whole(plan, state)
    kills.kill_repeatedly(plan, state, expected, 2)
    assert state.run == 1
    assert state.total + state.missed >= 1
    assert state.same == 1
    assert (state.lost, state.orphans, state.other) == (0, 0, 0)


def test_what_standard_output_acknowledged_has_to_be_in_the_ledger(plan: KillPlan) -> None:
    subprocess.run([*kills.nas("search", "digits"), *SIZE, "--quiet", "--run", str(plan.torn)], check=True)
    known = kills.held(plan)
    record = kills.read(plan.torn).complete[1]
    told = f"  1.0s  1/2  {record.key}  widen  {kills.facts(record, kills.selected(plan))}\n"
    state = State(SIZE)
    plan.log.write_text(told)
    kills.compare(plan, state, known)
    assert (state.lost, state.said) == (0, 0)
    plan.log.write_text(told + told.replace(record.key, "7.7") + told.replace("val ", "val 1"))
    kills.compare(plan, state, {**known, "8.8": ()})
    assert state.lost == 3  # one with other scores, one that isn't there, one that was there before


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("executor", PLANS)
def test_whole(executor: str, size: float, report: Report) -> None:
    report(kills.killed(PLANS[executor], size))
