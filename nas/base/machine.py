"""The machine that a run's numbers depend on, and the number of threads that torch computes with."""

from __future__ import annotations

import os
import platform
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from nas.base import arithmetic


def machine() -> dict[str, Any]:
    """Return the processor, the instruction set that torch uses, the cores, the system and the accelerator, and all
    else that decides arithmetic (`nas.base.arithmetic`).
    """
    import torch

    return {
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "instructions": arithmetic.instructions(),
        "environment": arithmetic.environment(),
        "arithmetic": arithmetic.fingerprint(),
    }


@contextmanager
def threads(count: int) -> Generator[None]:
    """Run torch with `count` threads inside the block, whatever the environment says: its sums depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
