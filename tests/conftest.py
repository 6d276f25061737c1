"""Settings of every test: one thread, and Hypothesis profiles chosen by HYPOTHESIS_PROFILE."""

import os

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("quick", max_examples=12, **COMMON)
settings.register_profile("ci", max_examples=12, derandomize=True, database=None, print_blob=True, **COMMON)
settings.register_profile("thorough", max_examples=300, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))
