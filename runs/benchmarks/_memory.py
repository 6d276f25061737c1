"""Peak memory of a piece of work, as the system counts it."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def peak_above(work: Callable[[], object]) -> int:
    """Bytes of resident memory that `work` takes at its peak, above what was held before."""
    with suppress(OSError):  # else the peak so far counts as this work's: too much rather than too little
        Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return max(status("VmHWM"), status("VmRSS")) - before


def status(name: str) -> int:
    """Bytes of one line of /proc/self/status; where there is none, the peak as the system counts it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
