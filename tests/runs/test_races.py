"""A small sample of runs/benchmarks/races.py and child_faults.py."""

from typing import Any

from benchmark_support import script


def missed(figures: list[dict[str, Any]]) -> list[str]:
    """The figures that miss their target; times may, on a busy machine."""
    return [entry["name"] for entry in figures if entry["holds"] is False and entry["unit"] != "s"]


def test_of_racing_drivers_one_owns_the_run() -> None:
    assert missed(script("races").race_all(4)) == []


def test_faulty_children_fail_alone_each_with_its_reason() -> None:
    assert missed(script("child_faults").inject(1, 5, 20.0)) == []
