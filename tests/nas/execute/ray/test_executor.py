"""Children trained by Ray Tune, in real Ray workers: what comes back, and what happens when they fail, hang or die.

One embedded Ray serves all tests, and each goes on with the executor that the one before left: starting Ray takes
seconds, and so does each worker.
"""

import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from engine_support import Inline, Recorder, tiny
from trap_support import set_traps

import morphs
from nas.base.errors import RunError
from nas.data import load_search_data
from nas.execute.executor import Done, Executor, Progressed
from nas.execute.local import LOG
from nas.execute.make_executor import make_executor
from nas.execute.ray import executor as ray_executor
from nas.execute.ray.executor import RayExecutor
from nas.execute.ray.messages import Delivered, JobRequest, Order
from nas.execute.ray.running_jobs import RunningJob
from nas.execute.ray.session import Session, connect
from nas.execute.ray.tune import Running
from nas.execute.ray.worker import _checkpoints_for, _other_versions
from nas.ledger import Job, Store, current_versions, read_config
from nas.ledger.config_file import write_config
from nas.ledger.types import Training
from nas.run.events import Silent
from nas.run.lifecycle import resume, search
from nas.run.plan import make_plan, seed_job

LONG = 10**8
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as in /proc


@pytest.fixture(scope="module")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Started from a folder that may be a stranger's run."""
    run, before = tmp_path_factory.mktemp("stranger"), os.getcwd()
    trace = set_traps(run)
    os.chdir(run)
    try:
        session = connect(tiny(executor="ray", workers=2), tmp_path_factory.mktemp("ray") / "ray.log")
    finally:
        os.chdir(before)
    yield session
    session.close()
    assert not trace.exists()


def test_workers_import_nothing_from_the_drivers_folder(ray_here: Session) -> None:
    path: list[str] = ray.get(ray.remote(num_cpus=0.1)(lambda: sys.path).remote())
    assert not [entry for entry in path if "stranger" in entry or entry in ("", ".")]


@pytest.fixture(scope="module")
def job() -> Job:
    return seed_job(make_plan(tiny(), load_search_data("digits", None, 3)))


@pytest.fixture(scope="module")
def executor(ray_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayExecutor]:
    run = tmp_path_factory.mktemp("run")
    made = make_executor(run, tiny(executor="ray", workers=1), load_search_data("digits", None, 3).digest)
    assert isinstance(made, RayExecutor)
    yield made
    made.close()


def test_an_embedded_ray_listens_to_this_machine_alone(ray_here: Session) -> None:
    """Whoever reaches its ports can run code in it."""
    daemons = [child for child in descendants(os.getpid()) if name_of(child) in ("raylet", "gcs_server")]
    assert len(daemons) == 2
    every = {pid: listening(pid) for pid in descendants(os.getpid())}
    assert all(every[pid] for pid in daemons)
    assert {address for found in every.values() for address in found} <= LOOPBACK


def descendants(pid: int) -> list[int]:
    children = [
        int(word)
        for listed in Path(f"/proc/{pid}/task").glob("*/children")
        for word in listed.read_text().split()
    ]
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def listening(pid: int) -> set[str]:
    """The addresses, as /proc writes them, on which a process listens."""
    inodes: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    lines = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
    ]
    return {words[1].partition(":")[0] for words in lines if words[3] == "0A" and words[9] in inodes}


def end_of(executor: Executor, number: int) -> Done:
    while True:
        for event in executor.poll(1.0):
            if isinstance(event, Done):
                assert event.number == number
                return event


def in_training(executor: Executor, number: int) -> int:
    """Wait until a job trains; the process that does it."""
    while True:
        for event in executor.poll(1.0):
            assert isinstance(event, Progressed)
            assert event.number == number
            (pid,) = workers()
            return pid


def workers() -> list[int]:
    """The processes that Tune's trials run in, or ran in."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::ImplicitFunc"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone() -> None:
    """Wait until no worker is left, also of those that had not come up yet."""
    end = time.monotonic() + 10
    while workers() and time.monotonic() < end:
        time.sleep(0.02)
    assert not workers()


def test_a_job_is_done_elsewhere_and_its_child_kept_here(executor: RayExecutor, job: Job) -> None:
    """The second goes on from the first one's weights, which no disk but ours holds."""
    executor.submit(1, job)
    first = end_of(executor, 1)
    assert first.result is not None, first.reason
    weights = first.result.weights
    executor.submit(2, replace(job, kind="parent", parent="0.0", training=Training(weights=weights)))
    second = end_of(executor, 2)
    assert second.result is not None, second.reason
    store = Store(executor.run / "checkpoints")
    assert store.has(weights)
    assert store.has(second.result.weights)
    assert second.result.weights != weights


def test_an_exception_fails_its_job_alone(executor: RayExecutor, job: Job) -> None:
    weights = Store(executor.run / "checkpoints").digests()[0]
    bad = replace(job, kind="child", moves="widen(node=nowhere, to=9)", training=Training(weights=weights))
    executor.submit(3, bad)
    failed = end_of(executor, 3)
    assert (failed.result, failed.fault) == (None, False)
    assert "nowhere" in str(failed.reason)


def test_a_parent_that_is_not_there_stops_the_run(executor: RayExecutor, job: Job) -> None:
    executor.submit(4, replace(job, kind="child", training=Training(weights="ab" * 32)))
    done = end_of(executor, 4)
    assert done.fault
    assert "not in" in str(done.reason)


def test_a_worker_that_died_idle_fails_no_job_and_one_that_hangs_is_killed(
    executor: RayExecutor, job: Job
) -> None:
    (pid,) = workers()
    os.kill(pid, signal.SIGKILL)
    executor.config = executor.config.model_copy(update={"child_timeout": 0.5})
    executor.submit(5, replace(job, steps=LONG))
    begin = time.monotonic()
    assert end_of(executor, 5).reason == "it took longer than 0.5 s (--child-timeout)"
    assert time.monotonic() - begin > 0.5


def test_a_killed_worker_fails_its_job_alone(executor: RayExecutor, job: Job) -> None:
    executor.submit(6, replace(job, kind="final", steps=LONG))
    os.kill(in_training(executor, 6), signal.SIGKILL)
    done = end_of(executor, 6)
    assert "its worker process died" in str(done.reason)
    assert not done.fault


def test_close_leaves_nothing(executor: RayExecutor) -> None:
    assert list(executor.run.glob(".tmp-ray-*"))
    executor.close()
    executor.close()
    gone()
    assert not list(executor.run.glob(".tmp-*"))


def test_children_shorter_than_a_start_get_a_second_worker(ray_here: Any, tmp_path: Path, job: Job) -> None:
    """Tune would give the first worker to whatever waits for the second, and end that one while it starts."""
    config = tiny(executor="ray", workers=2)
    executor = RayExecutor(tmp_path, config, load_search_data("digits", None, 3).digest)
    spans: list[tuple[float, float]] = []
    numbers = itertools.count()
    executor.submit(next(numbers), job)  # as the seed network, which is alone
    end = time.monotonic() + 150
    while time.monotonic() < end and not any(a < d and c < b for (a, b), (c, d) in itertools.pairwise(spans)):
        for event in executor.poll(1.0):
            if isinstance(event, Done):
                assert event.result is not None, event.reason
                spans.append((event.result.seconds["busy_from"], event.result.seconds["busy_to"]))
                for _ in range(2 if len(spans) == 1 else 1):  # from then on two at once
                    executor.submit(next(numbers), job)
    executor.close()
    assert time.monotonic() < end
    gone()


def test_a_run_that_ctrl_c_ended_comes_to_the_digest_of_a_local_one(
    ray_here: Any, finished: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two workers, weights through a folder, then Ctrl-C while a child trains; another executor goes on."""
    storage = tmp_path / "shared"
    storage.mkdir()
    run = tmp_path / "run"
    config = tiny(executor="ray", workers=2, storage=str(storage))
    outcome = search(config, run, Recorder(stop_after=3), "")
    assert outcome.stopped == "interrupted"
    gone()
    assert {record.result.weights for record in outcome.view.complete if record.result} <= {
        folder.name for folder in (storage / str(read_config(run).run)).iterdir()
    }
    place = {"storage": str(storage)}
    assert resume(run, Silent(), executor=Inline, place=place).view.digest == finished.outcome.view.digest
    assert capfd.readouterr() == ("", "")
    assert not (run / LOG).exists()


def test_a_job_that_met_a_dead_nodes_idle_workers_one_after_the_other_goes_on(
    tmp_path: Path, job: Job
) -> None:
    executor = RayExecutor(tmp_path, tiny(executor="ray", workers=8), "")
    request = JobRequest(1, None, job, {})
    executor._running[1] = running = RunningJob(request, job)
    for place in range(8):
        assert list(executor._handle(Running(1, place, None))) == []
        assert list(executor._retry(running, "its node died")) == []
        assert executor._mailbox.waiting.get_nowait() is request
    told: list[Done] = []
    while not told:
        list(executor._handle(Running(1, 0, None)))
        told = list(executor._retry(running, "its node died"))
    assert told[0].fault
    assert str(told[0].reason).startswith("ray: ")
    assert "its node died" in str(told[0].reason)


def test_a_late_child_takes_nobody_with_it_who_got_its_worker_this_moment(tmp_path: Path, job: Job) -> None:
    """What Tune's thread has said is heard before anyone is killed, and whom the blow hits all the same goes again."""
    executor = RayExecutor(tmp_path, tiny(executor="ray", child_timeout=1.0), "")
    late, other = (RunningJob(JobRequest(number, None, job, {}), job, actor="X") for number in (1, 2))
    late.deadline = 0.0
    executor._running.update({1: late, 2: other})
    executor._mailbox.news.put(Delivered(Done(1, None, "it diverged"), {}))
    assert list(executor.poll(0.0)) == [Done(1, None, "it diverged")]
    assert not executor._killed
    executor._killed.append("X")
    other.node, other.lost = "here", (0.0, "The actor died")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_executor, "nodes_alive", lambda: {"here"})
        assert list(executor._resolve_lost()) == []
    assert executor._mailbox.waiting.get_nowait() is other.request


def test_what_ray_itself_raises_is_said_in_one_line(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = RayExecutor(tmp_path, tiny(executor="ray"), "")
    weights = Store(tmp_path / "checkpoints").put(morphs.init(morphs.graph_from_json(job.graph), seed=0))

    def full(packed: Any) -> Any:
        raise ray.exceptions.OutOfDiskError("the object store's disk is full")

    monkeypatch.setattr(ray_executor.ray, "put", full)
    with pytest.raises(RunError, match=r"^ray: OutOfDiskError \(.*\); .*nas resume \S+$"):
        executor._send(replace(job, training=Training(weights=weights)))


def test_a_node_with_other_versions_trains_nothing() -> None:
    here = tuple(current_versions().items())
    assert _other_versions(here) is None
    said = _other_versions((*here, ("torch", "0.4")))
    assert said is not None
    assert re.fullmatch(r"ray: node \S+ has torch \S+ where the driver has 0\.4; .*", said)


def test_what_does_not_reach_its_node_is_no_childs_fault(job: Job) -> None:
    order = Order("{}", "", "", (), "nowhere://x", None, ())
    said = _checkpoints_for(JobRequest(1, order, job, {}), order)
    assert isinstance(said, str)
    assert said.startswith("ray: ")


def test_a_storage_that_is_no_place_is_refused(tmp_path: Path, job: Job) -> None:
    write_config(tmp_path, {})
    executor = RayExecutor(tmp_path, tiny(executor="ray", storage="nowhere://x"), "")
    with pytest.raises(RunError, match=r"^storage nowhere://x: "):
        executor.submit(1, job)


def test_a_child_that_no_node_has_room_for_is_refused(ray_here: Any, tmp_path: Path, job: Job) -> None:
    executor = RayExecutor(tmp_path, tiny(executor="ray", threads=64), "")
    with pytest.raises(RunError, match=r"^ray: .*64 processors and 0 GPUs.*--threads"):
        executor.submit(1, job)
    executor.close()


def test_a_cluster_that_starts_nothing_is_not_waited_for_without_end(
    ray_here: Any, tmp_path: Path, job: Job
) -> None:
    executor = RayExecutor(tmp_path, tiny(executor="ray", threads=64, address="auto"), "", patience=1.0)
    executor.submit(1, job)
    with pytest.raises(RunError, match=rf"^ray: .*64 processors.*nas resume {tmp_path}"):
        end_of(executor, 1)
    executor.close()
