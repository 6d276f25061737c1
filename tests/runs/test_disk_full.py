"""A small sample of runs/benchmarks/disk_full.py: disks that are full or fail, and a run that goes on afterwards."""

import sys
from types import ModuleType
from typing import Any

import pytest
from benchmark_support import faults, script

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it mounts and traces as Linux does"
)


@pytest.fixture(scope="module")
def disk() -> ModuleType:
    return script("disk_full")


@pytest.fixture(scope="module")
def bench(disk: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return disk.Bench.make(tmp_path_factory.mktemp("disk"))


def test_a_call_that_fails_for_want_of_space_or_of_a_disk(disk: ModuleType, bench: Any) -> None:
    if not disk.CAN_FAIL:
        pytest.skip("it knows the system calls of x86_64 alone")
    assert faults(disk.errno_cases(bench), 250, 1000) == []


def test_a_disk_with_little_space(disk: ModuleType, bench: Any) -> None:
    if not disk.can_mount():
        pytest.skip("it can't mount a file system here")
    assert faults(disk.space_cases(bench), 40) == []
