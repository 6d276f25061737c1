"""A small sample of runs/benchmarks/crash_points.py: one traced run, and some of the states that a crash can leave."""

import sys
from collections.abc import Iterator
from itertools import islice
from types import ModuleType
from typing import Any

import pytest
from benchmark_support import faults, script

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it traces system calls of Linux"
)


@pytest.fixture(scope="module")
def crash() -> ModuleType:
    return script("crash_points")


@pytest.fixture(scope="module")
def bench(crash: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return crash.Bench.make(tmp_path_factory.mktemp("crash"), 3, 1)


@pytest.mark.parametrize(
    ("part", "stride"),
    [
        ("kill", 70),
        ("torn", 500),
        ("journal", 2000),
        ("page", 300),
        ("lost", 30),
        ("power", 90),
        ("real", 75),
    ],
)
def test_a_crash_loses_nothing_that_was_told(crash: ModuleType, bench: Any, part: str, stride: int) -> None:
    assert faults(getattr(crash, f"{part}_cases")(bench), stride) == []


def test_a_claim_outlives_a_power_cut_the_moment_after_it(bench: Any) -> None:
    assert faults((lambda state=state: bench.resumes(state) for state in claimed(bench)), 3) == []


def claimed(bench: Any) -> Iterator[Any]:
    """What is durable when a trial has just been claimed."""
    states = script("_crash_states")
    for trace in bench.traces:
        known = None
        for state in islice(states.power_cuts(trace, "claims", 0), 0, None, 2):
            if state.get("claims") != known:
                yield state
            known = state.get("claims")
