"""Scripts of runs/, started as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def started(script: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "runs" / script), *options],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip
