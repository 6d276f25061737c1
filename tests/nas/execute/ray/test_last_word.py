"""A driver that Ray ends without a word leaves its line; one that ends by itself leaves none."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
DRIVER = """
import os, signal, sys
from pathlib import Path
from nas.execute.ray.last_word import LastWord
word = LastWord.start(Path("runs/x"))
{end}
"""


@pytest.mark.parametrize(
    ("end", "spoken"),
    [
        ("os._exit(1)", True),
        ("os.kill(os.getpid(), signal.SIGKILL)", True),
        ("os.abort()", True),
        ("word.close(); word.close()", False),
        ("word.close(); os._exit(1)", False),
    ],
)
def test_the_process_that_outlives_the_driver_says_the_line(end: str, spoken: bool) -> None:
    script = DRIVER.format(end=end)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    lines = [line for line in done.stderr.splitlines() if "nas resume runs/x" in line]
    assert len(lines) == spoken
    assert len(done.stderr.splitlines()) == spoken
