"""The death of Ray's daemon on the driver's machine. (Of a cluster's node: tests/faults/test_ray_node_death.py.)"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from engine_support import TINY, Inline

from nas.ledger import read
from nas.registry.configure import make_config
from nas.run.events import Silent
from nas.run.lifecycle import resume, search

ROOT = Path(__file__).parents[4]
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
]  # Ray is started anew
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_run_whose_ray_was_killed_says_so_and_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {name: value for name, value in TINY.items() if name != "train"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    recipe = tmp_path / "tiny.toml"
    recipe.write_text("\n".join(lines))
    options = ["--executor", "ray", "--workers", "1", "--run", str(run), "--quiet"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "nas", "search", str(recipe), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    while driver.poll() is None and len(told(run)) < 2:
        time.sleep(0.05)
    os.kill(child_of(driver.pid, "raylet"), signal.SIGKILL)
    before = told(run)
    out, said = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert not out
    assert said.startswith("nas: search: Ray's daemon ")
    assert len(said.splitlines()) == 1
    assert before <= told(run)
    assert read(run).final is None
    whole = search(make_config(str(recipe), {}), tmp_path / "whole", Silent(), "", Inline)
    assert resume(run, Silent()).view.digest == whole.view.digest


@pytest.mark.parametrize("after", [0.0, 1.0, 3.0])  # seconds; while Ray is started, or just then
def test_a_ray_that_is_killed_when_it_has_just_been_started(tmp_path: Path, after: float) -> None:
    options = ["--executor", "ray", "--workers", "1", "--generations", "1", "--run", str(tmp_path / "run")]
    with (tmp_path / "said").open("wb") as said:
        driver = subprocess.Popen(
            [sys.executable, "-m", "nas", "search", "digits", *options, "--quiet"],
            stdout=subprocess.PIPE, stderr=said, env=ENVIRONMENT,
        )  # fmt: skip
    raylet = None
    while raylet is None:
        assert driver.poll() is None
        with suppress(StopIteration, OSError):
            raylet = child_of(driver.pid, "raylet")
    time.sleep(after)
    os.kill(raylet, signal.SIGKILL)
    out, _ = driver.communicate(timeout=300)
    until = time.monotonic() + 30
    while not (lines := (tmp_path / "said").read_text().splitlines()) and time.monotonic() < until:
        time.sleep(0.1)
    assert driver.returncode in (1, 2)
    assert not out
    assert len(lines) == 1
    assert lines[0].startswith("nas: ")
    assert "nas resume" in lines[0]


def told(run: Path) -> set[str]:
    """The trials that are recorded as complete."""
    try:
        return {record.key for record in read(run).complete}
    except Exception:  # it is being made
        return set()


def child_of(pid: int, name: str) -> int:
    """The child process of that name."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == name)
