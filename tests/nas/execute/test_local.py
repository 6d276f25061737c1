"""Real worker processes: what happens when they fail, hang, die, or lose their driver. Each test goes on with the
executor that the one before left, since starting a worker takes seconds.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_support import TINY, Inline, tiny

from nas.data import load_search_data
from nas.execute import fork_server
from nas.execute.executor import Done, Progressed
from nas.execute.local import LOG, TRIES, LocalExecutor
from nas.execute.worker import data_for, data_of
from nas.ledger import Job, Store, read
from nas.ledger.types import Training
from nas.run.events import Silent
from nas.run.lifecycle import resume, search
from nas.run.plan import make_plan, seed_job

ROOT = Path(__file__).parents[3]
LONG = 10**8


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return [seed_job(make_plan(tiny(), load_search_data("digits", None, 3)))]


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalExecutor]:
    run = tmp_path_factory.mktemp("local")
    digest = load_search_data("digits", None, 3).digest
    executor = LocalExecutor(run, tiny(workers=1), digest)
    yield executor
    executor.close()


def end_of(executor: LocalExecutor, number: int) -> Done:
    """The end of a job."""
    while True:
        for event in executor.poll(1.0):
            if isinstance(event, Done):
                assert event.number == number
                return event


def in_training(executor: LocalExecutor, number: int) -> int:
    """Wait until a job trains; the process that does it."""
    while True:
        for event in executor.poll(1.0):
            assert isinstance(event, Progressed)
            assert event.number == number
            return worker_of(executor)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def worker_of(executor: LocalExecutor) -> int:
    """The process of its only worker."""
    assert executor.processes is not None
    (pid,) = children_of(executor.processes.process.pid)
    return pid


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_job_is_done_in_another_process(executor: LocalExecutor, jobs: list[Job]) -> None:
    executor.submit(1, jobs[0])
    done = end_of(executor, 1)
    assert done.result is not None
    assert Store(executor.run / "checkpoints").has(done.result.weights)


def test_an_exception_fails_its_job_alone(executor: LocalExecutor, jobs: list[Job]) -> None:
    done = end_of_last(executor, jobs[0])
    weights = done.result.weights if done.result else ""
    bad = replace(
        jobs[0], kind="child", moves="widen(node=nowhere, to=9)", training=Training(weights=weights)
    )
    executor.submit(2, bad)
    failed = end_of(executor, 2)
    assert failed.result is None
    assert "nowhere" in str(failed.reason)
    assert end_of_last(executor, jobs[0]) == done


def end_of_last(executor: LocalExecutor, job: Job) -> Done:
    """The end of a job that ends well, without its times."""
    executor.submit(3, job)
    done = end_of(executor, 3)
    assert done.result is not None, done.reason
    return replace(done, result=replace(done.result, seconds={}))


def test_a_killed_worker_fails_its_job_alone(executor: LocalExecutor, jobs: list[Job]) -> None:
    executor.submit(4, replace(jobs[0], kind="final", steps=LONG))
    executor.submit(5, jobs[0])
    os.kill(in_training(executor, 4), signal.SIGKILL)
    assert "SIGKILL" in str(end_of(executor, 4).reason)
    assert end_of(executor, 5).result is not None


def test_a_worker_killed_by_a_signal_without_a_name_fails_its_job_alone(
    executor: LocalExecutor, jobs: list[Job]
) -> None:
    executor.submit(4, replace(jobs[0], kind="final", steps=LONG))
    executor.submit(5, jobs[0])
    os.kill(in_training(executor, 4), signal.SIGRTMIN + 6)
    assert f"signal {signal.SIGRTMIN + 6}" in str(end_of(executor, 4).reason)
    assert end_of(executor, 5).result is not None


def test_an_interrupt_of_a_worker_changes_nothing(executor: LocalExecutor, jobs: list[Job]) -> None:
    """Only its driver stops a run, also where kill -INT goes to all of a user's processes."""
    executor.submit(4, replace(jobs[0], kind="final", steps=LONG))
    executor.submit(5, jobs[0])
    worker = in_training(executor, 4)
    assert executor.processes is not None
    for pid in (executor.processes.process.pid, worker):
        os.kill(pid, signal.SIGINT)
    assert in_training(executor, 4) == worker
    os.kill(worker, signal.SIGKILL)
    assert "SIGKILL" in str(end_of(executor, 4).reason)
    assert end_of(executor, 5).result is not None


def test_a_worker_that_died_idle_fails_no_job(executor: LocalExecutor, jobs: list[Job]) -> None:
    pid = worker_of(executor)
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)
    assert end_of_last(executor, jobs[0]).result is not None


def test_a_child_that_takes_too_long_is_killed(executor: LocalExecutor, jobs: list[Job]) -> None:
    executor.config = executor.config.model_copy(update={"child_timeout": 0.5})
    executor.submit(6, replace(jobs[0], steps=LONG))
    begin = time.monotonic()
    assert end_of(executor, 6).reason == "it took longer than 0.5 s (--child-timeout)"
    assert time.monotonic() - begin > 0.5


def test_close_ends_a_frozen_worker_and_leaves_nothing(executor: LocalExecutor, jobs: list[Job]) -> None:
    executor.submit(7, replace(jobs[0], kind="final", steps=LONG))
    pid = in_training(executor, 7)
    os.kill(pid, signal.SIGSTOP)
    executor.close()
    executor.close()
    assert not alive(pid)
    assert not (executor.run / LOG).read_text()


def test_a_worker_that_sees_other_data_stops_the_run() -> None:
    found = data_of(tiny(), "0" * 64)
    assert isinstance(found, str)
    assert "data: " in found
    missing = data_of(tiny(data="imagefolder:/nowhere"), "0" * 64)
    assert isinstance(missing, str)
    assert "/nowhere" in missing
    assert data_for(tiny(data="user.module:function")) is None, "code of the user's ran in the fork_server"


def test_a_nursery_that_dies_is_replaced_and_what_was_in_flight_done_again(
    executor: LocalExecutor, jobs: list[Job]
) -> None:
    executor.submit(8, replace(jobs[0], kind="final", steps=LONG))
    pids: list[int] = []
    for _ in range(TRIES):
        pids.append(in_training(executor, 8))
        struck = executor.processes
        assert struck is not None
        struck.process.kill()
        while len(pids) < TRIES and executor.processes is struck:
            assert not any(isinstance(event, Done) for event in executor.poll(0.1))
    assert len(set(pids)) == TRIES
    assert "its worker process died" in str(end_of(executor, 8).reason)
    executor.submit(9, jobs[0])
    assert end_of(executor, 9).result is not None


def test_a_worker_that_cannot_be_forked_is_no_childs_fault_and_the_others_go_on(
    tmp_path: Path, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    second_fails = (
        "import errno, nas.execute.fork_server as n; real = n._fork; n.calls = 0\n"
        "def fork(*facts):\n"
        "    n.calls += 1\n"
        "    if n.calls == 2: raise OSError(errno.EAGAIN, 'Resource temporarily unavailable')\n"
        "    return real(*facts)\n"
        "n._fork = fork\n"
    )
    monkeypatch.setattr(
        fork_server, "_MAIN", fork_server._MAIN.replace("from nas", f"{second_fails}from nas", 1)
    )
    executor = LocalExecutor(tmp_path, tiny(workers=2), load_search_data("digits", None, 3).digest)
    ends: dict[int, Done] = {}
    executor.submit(1, jobs[0])
    executor.submit(2, jobs[0])
    while len(ends) < 2:
        ends |= {event.number: event for event in executor.poll(1.0) if isinstance(event, Done)}
    executor.close()
    assert ends[1].result is not None
    assert ends[2].fault
    assert str(ends[2].reason).startswith("its worker process can't be started (Resource temporarily unavail")


def test_the_digest_depends_neither_on_executor_nor_on_workers(finished: Any, tmp_path: Path) -> None:
    outcome = search(tiny(workers=2), tmp_path / "run", Silent(), "")
    assert outcome.view.digest == finished.outcome.view.digest
    assert not (tmp_path / "run" / LOG).read_text()


# A user's script, without the guard that multiprocessing's spawn would ask for.
SCRIPT = """
import json, sys
from pathlib import Path
from nas.registry.configure import check_config
from nas.run.events import Silent
from nas.run.lifecycle import search
class Say(Silent):
    def on_trial_end(self, record):
        print(record.key, flush=True)
search(check_config(json.loads(sys.argv[2])), Path(sys.argv[1]), Say(), "")
"""


def test_kill_9_of_the_driver_ends_its_workers_and_loses_nothing(finished: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    driver = subprocess.Popen(
        [sys.executable, str(script), str(run), json.dumps({**TINY, "workers": 2})],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "2",
        },  # a child's threads are --threads
    )
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == "0.0"
    told = {driver.stdout.readline().strip(), "0.0"}
    (fork_server,) = children_of(driver.pid)
    workers = children_of(fork_server)
    assert len(workers) == 2
    os.killpg(driver.pid, signal.SIGKILL)
    _, noise = driver.communicate()
    end = time.monotonic() + 10
    while any(map(alive, [fork_server, *workers])) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(alive, [fork_server, *workers]))
    assert not noise
    assert not (run / LOG).read_text()
    assert told <= {record.key for record in read(run).complete}
    outcome = resume(run, Silent(), executor=Inline)
    assert outcome.view.digest == finished.outcome.view.digest
