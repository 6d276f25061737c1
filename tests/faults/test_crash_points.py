"""Crashes at every point where a run touches the disk: some of the states by default, all when asked."""

import sys
from collections.abc import Iterator
from itertools import islice

import pytest
from faults.cases import examined, in_memory, sample
from faults.crash_points import PARTS, Bench
from faults.crash_states import State, power_cuts
from faults.figures import Report

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it traces system calls of Linux"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.make(tmp_path_factory.mktemp("crash"), 3, 1)


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
def test_a_crash_loses_nothing_that_was_told(bench: Bench, part: str, stride: int) -> None:
    assert sample(PARTS[part](bench), stride) == []


def test_a_claim_outlives_a_power_cut_the_moment_after_it(bench: Bench) -> None:
    assert sample((lambda state=state: bench.resumes(state) for state in claimed(bench)), 3) == []


def claimed(bench: Bench) -> Iterator[State]:
    """What is durable when a trial has just been claimed."""
    for trace in bench.traces:
        known = None
        for state in islice(power_cuts(trace, "claims", 0), 0, None, 2):
            if state.get("claims") != known:
                yield state
            known = state.get("claims")


@pytest.fixture(scope="module")
def whole() -> Iterator[Bench]:
    with in_memory("crash-") as folder:
        yield Bench.make(folder)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", PARTS)
def test_whole(whole: Bench, part: str, stride: int, report: Report) -> None:
    report(examined(part, PARTS[part](whole), stride, "doesn't go on, or lost something"))
