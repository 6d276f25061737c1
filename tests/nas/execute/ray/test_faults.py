"""Ray's own deaths: the daemon of the driver's machine, and a node of a cluster. Each in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_support import TINY, Inline

from nas.ledger import read
from nas.registry.configure import make_config
from nas.run.events import Silent
from nas.run.lifecycle import resume, search

ROOT = Path(__file__).parents[4]
pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(900),
]  # Ray is started anew, three nodes of it at last
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
    assert said.startswith("nas: search: Ray's daemon on this machine died; nothing that was told is lost")
    assert len(said.splitlines()) == 1
    assert before <= told(run)
    assert read(run).final is None
    whole = search(make_config(str(recipe), {}), tmp_path / "whole", Silent(), "", Inline)
    assert resume(run, Silent()).view.digest == whole.view.digest


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


def test_the_children_of_a_dead_node_run_again_elsewhere() -> None:
    script = ROOT / "runs" / "benchmarks" / "ray_node_death.py"
    answer = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert answer.returncode == 0, answer.stderr
    figures = json.loads(answer.stdout.splitlines()[-1])["figures"]
    assert [figure["name"] for figure in figures if figure["holds"] is False] == []
