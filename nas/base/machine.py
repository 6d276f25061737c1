"""The machine that a run's numbers depend on, and the number of threads that torch computes with."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process and its children can still allocate: what the machine has free, and the control groups
    (a container's limit) that it is in leave. None where the system does not say.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return min([free, *_left_in_groups(proc / "self" / "cgroup", groups)])


def _left_in_groups(own: Path, groups: Path) -> Iterator[int]:
    """What each control group leaves, from this process's own up; version 2 has one tree, version 1 one for memory."""
    try:
        entries = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in (entry for entry in entries if len(entry) == 3):
        if controllers not in ("", "memory"):
            continue
        root, limit, used = (
            (groups, "memory.max", "memory.current")
            if not controllers
            else (groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        inside = Path(path.lstrip("/"))
        for folder in (root / inside, *(root / parent for parent in inside.parents)):
            with suppress(OSError, ValueError):  # no such folder in a container, or the word "max"
                most, taken = (int((folder / name).read_text()) for name in (limit, used))
                yield max(0, most - taken + _cached(folder / "memory.stat"))


def _cached(stat: Path) -> int:
    """Bytes of file contents that a group counts as used and gives up at once."""
    with suppress(OSError, ValueError):
        named = dict(line.split() for line in stat.read_text().splitlines())
        return int(named.get("total_inactive_file", named.get("inactive_file", 0)))
    return 0


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


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
