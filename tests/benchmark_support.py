"""Scripts of runs/benchmarks as modules, so that tests can try a small sample of what they try."""

import importlib
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

BENCHMARKS = Path(__file__).parents[1] / "runs" / "benchmarks"


def script(name: str) -> ModuleType:
    """The script of that name."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


def faults(cases: Iterable[Any], stride: int, stop: int | None = None) -> list[str]:
    """What went wrong in every `stride`-th case, up to the `stop`-th."""
    tried = [case() for case in islice(cases, 0, stop, stride)]
    assert tried
    return [fault for fault in tried if fault is not None]
