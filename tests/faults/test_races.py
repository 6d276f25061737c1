"""Drivers that race for one run: a few races by default, 200 when asked."""

import sys

import pytest
from faults.figures import Report, missed
from faults.races import race_all

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it forks drivers")


def test_of_racing_drivers_one_owns_the_run() -> None:
    assert missed([each for each in race_all(4) if each.unit != "s"]) == []  # a busy machine may take longer


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_whole(size: float, report: Report) -> None:
    report(race_all(max(10, round(200 * size))))
