"""A small sample of runs/benchmarks/damage.py: files flipped, cut and hostile."""

from types import ModuleType
from typing import Any

import pytest
from benchmark_support import faults, script


@pytest.fixture(scope="module")
def damage() -> ModuleType:
    return script("damage")


@pytest.fixture(scope="module")
def bench(damage: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return damage.Bench.make(tmp_path_factory.mktemp("damage"))


@pytest.mark.parametrize(
    ("part", "stride"),
    [("checkpoint", 50), ("untold", 40), ("ledger", 100), ("config", 20), ("hostile", 25), ("canary", 1)],
)
def test_damage_is_refused_and_runs_no_code(damage: ModuleType, bench: Any, part: str, stride: int) -> None:
    assert faults(getattr(damage, f"{part}_cases")(bench), stride) == []
