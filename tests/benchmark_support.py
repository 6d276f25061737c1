"""Scripts of runs/benchmarks as modules, so that tests can try a small sample of what they try."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parents[1] / "runs" / "benchmarks"


def script(name: str) -> ModuleType:
    """The script of that name."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)
