"""A node of a Ray cluster that dies in the middle of a search, when asked."""

import pytest
from faults.figures import Report
from faults.processes import in_new_process


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_whole(size: float, report: Report) -> None:
    from faults.ray_node_death import compared  # it imports Ray

    report(in_new_process(compared, size < 1))
