"""Workers started without a fork: the same results, the same faults, and on a system that has no fork at all."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_support import TINY, Inline, tiny

from nas.api.options import configuration
from nas.base.errors import UserError
from nas.data import load_search_data
from nas.execute import spawned_workers, worker_processes
from nas.execute.executor import Done, Progressed
from nas.execute.local import LOG, LocalExecutor
from nas.execute.spawned_workers import SpawnedWorkers
from nas.execute.worker_processes import start_method
from nas.ledger import Job
from nas.run.events import Silent
from nas.run.lifecycle import search
from nas.run.plan import make_plan, seed_job

ROOT = Path(__file__).parents[3]
LONG = 10**8


@pytest.fixture(autouse=True)
def spawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(worker_processes.VARIABLE, "spawn")


@pytest.fixture(scope="module")
def job() -> Job:
    return seed_job(make_plan(tiny(), load_search_data("digits", None, 3)))


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    digest = load_search_data("digits", None, 3).digest
    executor = LocalExecutor(tmp_path_factory.mktemp("local"), tiny(workers=1), digest)
    yield executor
    executor.close()


def next_of(executor: LocalExecutor, number: int) -> Progressed | Done:
    while True:
        for event in executor.poll(1.0):
            assert event.number == number
            return event


def end_of(executor: LocalExecutor, number: int) -> Done:
    while not isinstance(event := next_of(executor, number), Done):
        pass
    return event


def pids(executor: LocalExecutor) -> list[int]:
    assert isinstance(executor.processes, SpawnedWorkers)
    return [process.pid for process in executor.processes._running.values()]


def test_a_killed_worker_fails_its_job_alone(executor: LocalExecutor, job: Job) -> None:
    executor.submit(1, replace(job, kind="final", steps=LONG))
    executor.submit(2, job)
    assert isinstance(next_of(executor, 1), Progressed)
    (pid,) = pids(executor)
    assert os.getsid(pid) == pid, "Ctrl-C would reach it"
    os.kill(pid, signal.SIGKILL)
    assert "SIGKILL" in str(end_of(executor, 1).reason)
    assert end_of(executor, 2).result is not None


def test_a_child_that_takes_too_long_is_killed_and_its_worker_replaced(
    executor: LocalExecutor, job: Job
) -> None:
    executor.config = executor.config.model_copy(update={"child_timeout": 0.5})
    executor.submit(3, replace(job, steps=LONG))
    assert "0.5 s" in str(end_of(executor, 3).reason)
    executor.submit(4, job)
    assert end_of(executor, 4).result is not None


def test_close_leaves_no_process(executor: LocalExecutor, job: Job) -> None:
    executor.submit(5, replace(job, kind="final", steps=LONG))
    (pid,) = pids(executor)
    executor.close()
    executor.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not (executor.run / LOG).read_text()


def test_a_worker_that_cannot_be_started_is_no_fault_of_its_job(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    executor = LocalExecutor(tmp_path, tiny(workers=1), "")
    executor.submit(1, job)
    done = end_of(executor, 1)
    executor.close()
    assert done.fault
    assert "No such file" in str(done.reason)


def test_workers_are_forked_where_that_is_safe_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(worker_processes.VARIABLE)
    assert start_method() == ("fork" if sys.platform == "linux" else "spawn")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert start_method() == "spawn"
    monkeypatch.setenv(worker_processes.VARIABLE, "fork")
    assert start_method() == "fork"
    monkeypatch.delattr(os, "fork")
    with pytest.raises(UserError, match="fork"):
        start_method()
    monkeypatch.setenv(worker_processes.VARIABLE, "thread")
    with pytest.raises(UserError, match="thread"):
        start_method()


def test_the_entry_takes_no_module_of_the_current_folder_for_one_of_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('mine')")
    monkeypatch.chdir(tmp_path)
    executor = LocalExecutor(tmp_path, tiny(workers=1), load_search_data("digits", None, 3).digest)
    executor.submit(1, job)
    done = end_of(executor, 1)
    executor.close()
    assert done.result is not None, (done.reason, (tmp_path / LOG).read_text())
    assert "nas.execute.spawned_workers" in spawned_workers._MAIN


# What Windows lacks is taken away before anything of ours is imported; its own lock is played by a record lock, which
# the kernel frees in the same way. The script has no guard: run again by its workers it would search without end.
SCRIPT = """
import multiprocessing.connection, os, sys
import optuna, torch, torchvision
import fcntl as real
class Msvcrt:
    LK_NBLCK = 2
    @staticmethod
    def locking(descriptor, mode, count):
        try:
            real.lockf(descriptor, real.LOCK_EX | real.LOCK_NB, count, os.lseek(descriptor, 0, os.SEEK_CUR))
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error
sys.modules["msvcrt"] = Msvcrt
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in (
    "fork", "register_at_fork", "setsid", "setpgid", "getpgid", "killpg", "pread", "pwrite", "O_DIRECTORY", "O_CLOEXEC",
    "sched_getaffinity", "waitstatus_to_exitcode",
):
    delattr(os, name)
import nas, nas.inspect.current_driver, nas.execute.local, nas.cli.run_commands
from nas.ledger import Ledger
from nas.api.options import configuration
from nas.base.errors import RunError
class Held:
    def on_generation_start(self, generation, jobs):
        assert nas.open_run(sys.argv[1]).status.generation == (generation - 1 if generation else None)
run = nas.search("digits", run=sys.argv[1], quiet=True, callbacks=[Held()], **eval(sys.argv[2]))
print(run.digest)
with Ledger.open(run.folder):
    pass
"""


def test_a_whole_search_on_a_system_without_fork_and_its_kin_comes_to_the_same(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    options = {name: value for name, value in TINY.items() if name != "space"} | {"workers": 2}
    environment = {name: value for name, value in os.environ.items() if name != worker_processes.VARIABLE}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), repr(options)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    whole = search(configuration("digits", options)[0], tmp_path / "whole", Silent(), "", Inline)
    assert done.stdout.split() == [whole.view.digest]
    assert not (tmp_path / "run" / LOG).read_text()
