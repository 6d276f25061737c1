"""Settings of every test: one thread, Hypothesis profiles chosen by HYPOTHESIS_PROFILE, the size of fault tests."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("quick", max_examples=12, **COMMON)
settings.register_profile("ci", max_examples=12, derandomize=True, database=None, print_blob=True, **COMMON)
settings.register_profile("thorough", max_examples=300, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declared here, since pytest asks only the conftest.py files that it loads at its start."""
    parser.addoption(
        "--faults-size",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="how much of each whole fault test to do (pytest -m faults): a share of 1, which is all of it",
    )
