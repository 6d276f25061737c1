"""What a run's numbers depend on beside its settings: the kind of machine, and how many threads compute."""

from __future__ import annotations

import os
import platform
from collections.abc import Generator
from contextlib import contextmanager


def machine() -> dict[str, str | int]:
    """Processor, its instruction set as torch uses it, cores and system."""
    import torch

    return {
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


@contextmanager
def threads(count: int) -> Generator[None]:
    """Torch computes with `count` threads inside, whatever the environment says: its sums depend on that."""
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
