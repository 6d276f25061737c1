"""No process imports what lies in the current folder, which may be a stranger's run: `cd RUN && nas resume .`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_support import tiny
from trap_support import OTHERS, set_traps

import nas
from nas.base.import_path import safe_path
from nas.data import load_search_data
from nas.execute import worker_processes
from nas.execute.executor import Done
from nas.execute.local import LocalExecutor
from nas.run.plan import make_plan, seed_job

ROOT = Path(nas.__file__ or "").parents[1]


@pytest.mark.parametrize("method", worker_processes.METHODS)
def test_workers_and_a_fork_server_started_anew(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_search_data("digits", None, 3)
    job = seed_job(make_plan(tiny(), data))
    run = tmp_path / "run"
    run.mkdir()
    trace = set_traps(run)
    monkeypatch.chdir(run)
    monkeypatch.setenv(worker_processes.VARIABLE, method)
    executor = LocalExecutor(run, tiny(workers=1), data.digest)
    executor.submit(1, job)
    ended: list[Done] = []
    while not ended:
        ended = [event for event in executor.poll(1.0) if isinstance(event, Done)]
    executor.close()
    assert ended[0].result is not None, ended[0].reason
    assert not trace.exists()


@pytest.mark.parametrize("how", ["nas", "python -m nas"])
def test_the_command_itself(how: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    # python -m looks there for what it needs before any code of ours is run, and for nas.py: see SECURITY.md.
    others = tuple(name for name in OTHERS if name != "nas")
    trace = set_traps(run, others if how != "nas" else (*OTHERS, "json", "typing", "random", "socket"))
    python = Path(sys.executable)
    command = [python.with_name("nas")] if how == "nas" else [python, "-m", "nas"]
    done = subprocess.run(
        [*command, "status", "."],
        cwd=run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)  # it is no run
    assert not trace.exists()


def test_the_processes_of_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = set_traps(tmp_path, ("json",))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    command = [sys.executable, "-c", "import json"]  # as multiprocessing begins its own
    with safe_path():
        subprocess.run(command, check=True)
    assert not trace.exists()
    assert "PYTHONSAFEPATH" not in os.environ
    subprocess.run(command, check=True)
    assert trace.exists()  # that the trap works
