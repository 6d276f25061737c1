"""The machine that a run's numbers depend on, and the number of threads that torch computes with."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Generator
from contextlib import contextmanager


def machine() -> dict[str, str | int]:
    """Return the processor, the instruction set that torch uses, the cores, the system and the accelerator."""
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
    """Run torch with `count` threads inside the block, whatever the environment says: its sums depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def uncollected() -> Generator[None]:
    """Without garbage collections inside the block, for making many objects that all stay: each collection would look
    at all of them again, a third of the time for some thousands.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
