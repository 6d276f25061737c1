"""Searches that are killed and resumed come to the same bits: two kills by default, 63 when asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.figures import Report
from faults.kills import nas
from faults.resume import SHORT, WHOLE, bits, compared, kill_and_resume

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="it finds processes as Linux does"
)
SIZE = ["--children", "1", "--generations", "2", "--epochs", "1", "--final-share", "0.1", "--workers", "2"]


def test_a_killed_search_comes_to_the_bits_of_one_that_was_left_alone(tmp_path: Path) -> None:
    command = [*nas("search", "digits"), *SIZE, "--quiet", "--run"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    torn = tmp_path / "torn"
    waits, met = kill_and_resume(torn, [*command, str(torn)], 2, 0.5, os.environ)
    assert len(waits) <= met <= 2
    assert bits(torn) == bits(tmp_path / "whole")


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_whole(tmp_path: Path, size: float, report: Report) -> None:
    report(compared(tmp_path, WHOLE if size == 1 else SHORT))
