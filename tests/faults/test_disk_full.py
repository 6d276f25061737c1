"""Disks that are full or fail, and a run that goes on afterwards: some cases by default, all when asked."""

import sys
from collections.abc import Iterator

import pytest
from faults.cases import examined, in_memory, sample
from faults.disk_full import PARTS, Bench, can_mount
from faults.figures import Report
from faults.traced import CAN_FAIL

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it mounts and traces as Linux does"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench.make(tmp_path_factory.mktemp("disk"))


def need(part: str) -> None:
    """Skip what can't be done on this machine."""
    if part == "errno" and not CAN_FAIL:
        pytest.skip("it knows the system calls of x86_64 alone")
    if part != "errno" and not can_mount():
        pytest.skip("it can't mount a file system here")


def test_a_call_that_fails_because_the_disk_is_full_or_broken(bench: Bench) -> None:
    need("errno")
    assert sample(PARTS["errno"](bench), 250, 1000) == []


def test_a_disk_with_little_space(bench: Bench) -> None:
    need("space")
    assert sample(PARTS["space"](bench), 40) == []


@pytest.fixture(scope="module")
def whole() -> Iterator[Bench]:
    with in_memory("full-") as folder:
        yield Bench.make(folder)


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", PARTS)
def test_whole(whole: Bench, part: str, stride: int, report: Report) -> None:
    need(part)
    step = 1 if part == "command" else stride  # there are three of these
    report(examined(part, PARTS[part](whole), step, "lost something, doesn't go on, or says it badly"))
