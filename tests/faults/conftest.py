"""What the whole fault tests share: their size, and what becomes of their figures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from faults.figures import Figure, Report, keep, missed


@pytest.fixture
def size(request: pytest.FixtureRequest) -> float:
    """The share of a whole test that was asked for."""
    share = float(request.config.getoption("--faults-size"))
    if not 0 < share <= 1:
        raise pytest.UsageError(f"--faults-size {share}: not a share; give a number above 0, at most 1")
    return share


@pytest.fixture
def stride(size: float) -> int:
    """Every so many-th case is tried."""
    return round(1 / size)


@pytest.fixture
def report(request: pytest.FixtureRequest, size: float) -> Report:
    """Keeps the figures of this test, and fails where one misses its target."""

    def reported(figures: Sequence[Figure]) -> None:
        keep(request.node.nodeid, size, figures)
        assert missed(figures) == []

    return reported
