"""A small sample of runs/benchmarks/kills.py and resume.py: real searches that are killed with kill −9, and go on."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_support import script

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it finds processes as Linux does"
)
SIZE = ["--children", "1", "--generations", "2", "--epochs", "1", "--final-share", "0.1", "--workers", "2"]


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """How kills.py treats a search, with its files in a folder of the test's."""
    courses = script("_courses")
    monkeypatch.setattr(courses, "OUT", tmp_path)
    return replace(courses.COURSES["local"], name="sample")


def test_a_search_that_is_killed_loses_nothing_that_was_told(course: Any) -> None:
    kills = script("kills")
    state = kills.State(SIZE, imports=1.0)
    expected = kills.whole(course, state)
    kills.torment(course, state, expected, 2)
    assert state.run == 1
    assert state.total + state.missed >= 1
    assert state.same == 1
    assert (state.lost, state.orphans, state.other) == (0, 0, 0)


def test_what_standard_output_acknowledged_has_to_be_in_the_ledger(course: Any) -> None:
    kills = script("kills")
    subprocess.run([*kills.nas("search", "digits"), *SIZE, "--quiet", "--run", str(course.torn)], check=True)
    known = kills.held(course)
    record = kills.read(course.torn).complete[1]
    told = f"  1.0s  1/2  {record.key}  widen  {kills.facts(record)}\n"
    state = kills.State(SIZE)
    course.log.write_text(told)
    kills.compare(course, state, known)
    assert (state.lost, state.said) == (0, 0)
    course.log.write_text(told + told.replace(record.key, "7.7") + told.replace("val ", "val 1"))
    kills.compare(course, state, {**known, "8.8": ()})
    assert state.lost == 3  # one with other scores, one that isn't there, one that was there before


def test_a_killed_search_comes_to_the_bits_of_one_that_was_left_alone(tmp_path: Path) -> None:
    resume = script("resume")
    command = [*resume.nas("search", "digits"), *SIZE, "--quiet", "--run"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    waits, struck = resume.torment(tmp_path / "torn", [*command, str(tmp_path / "torn")], 2, 0.5)
    assert len(waits) <= struck <= 2
    assert resume.bits(tmp_path / "torn") == resume.bits(tmp_path / "whole")
