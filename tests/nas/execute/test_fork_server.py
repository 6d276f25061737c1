"""The fork_server that the command line forks off: it serves its driver, and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys
from nas.execute.fork_server import ForkServer
fork_server = ForkServer.fork_off()
print(fork_server.process.pid, "torch" in sys.modules, flush=True)
sys.stdin.readline()
fork_server.close()
print(fork_server.process.wait(), flush=True)
sys.stdin.readline()
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started() -> tuple[subprocess.Popen[str], int]:
    driver = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert driver.stdout is not None
    pid, shared = driver.stdout.readline().split()
    assert shared == "True"
    return driver, int(pid)


def soon(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_a_forked_nursery_is_in_a_session_of_its_own_and_ends_when_closed() -> None:
    driver, pid = started()
    assert soon(lambda: os.getsid(pid) == pid)
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write("\n")
    driver.stdin.flush()
    assert driver.stdout.readline().strip() in ("0", "-15")  # of its own accord, or still on its way
    assert soon(lambda: not running(pid))
    assert driver.communicate("\n") == ("", "")
    assert driver.returncode == 0


def test_a_forked_nursery_ends_with_a_killed_driver() -> None:
    driver, pid = started()
    os.killpg(driver.pid, signal.SIGKILL)
    assert driver.communicate() == ("", "")
    assert soon(lambda: not running(pid))
