"""The contract of the moves on chains of them: a few cases by default, 10,000 when asked."""

import pytest
from faults.figures import Report, missed
from faults.move_contract import examined, many, portion


def test_chains_of_moves_keep_the_contract() -> None:
    assert missed(examined([portion(0, 5)], 1)) == []


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_whole(size: float, report: Report) -> None:
    cases = round(10_000 * size)
    report(examined(many(cases), cases))
