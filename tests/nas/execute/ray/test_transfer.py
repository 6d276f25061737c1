"""The storage in which checkpoints are handed over: what lies there stays whole, and no longer than it is needed."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_support import tiny

import morphs
from morphs import parse_graph
from nas.base.errors import RunError
from nas.execute.executor import Done
from nas.execute.ray.executor import RayExecutor
from nas.execute.ray.messages import Delivered
from nas.execute.ray.running_jobs import RunningJob
from nas.execute.ray.transfer import JobCheckpoints, Storage
from nas.ledger import Job, Store, read_config
from nas.ledger.config_file import write_config
from nas.ledger.types import Training

GRAPH = parse_graph("x = input(size=[4]); c = linear(x, features=3); o = output(c)")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "shared"), None)


def driver(run: Path) -> RayExecutor:
    """An executor of the run in that folder, whose storage lies beside it."""
    if not run.exists():
        run.mkdir()
        write_config(run, {})
    return RayExecutor(run, tiny(executor="ray", storage=str(run.parent / "shared")), "")


def there(run: Path) -> set[str]:
    """What lies in the storage for that run."""
    return {entry.name for entry in (run.parent / "shared" / str(read_config(run).run)).iterdir()}


@pytest.mark.parametrize("how", ["flip", "cut", "other", "gone"])
def test_what_was_damaged_in_the_storage_is_no_childs_fault(
    storage: Storage, tmp_path: Path, how: str
) -> None:
    network = morphs.init(GRAPH, seed=0)
    storage.put(network.digest, morphs.pack(network))
    assert JobCheckpoints({}, storage).get(network.digest).digest == network.digest
    weights = tmp_path / "shared" / network.digest / "weights.safetensors"
    content = weights.read_bytes()
    if how == "other":
        storage.put(network.digest, morphs.pack(morphs.init(GRAPH, seed=1)))
    elif how == "gone":
        storage.remove(network.digest)
        storage.remove(network.digest)
        assert not storage.has(network.digest)
    else:
        weights.write_bytes(content[:-3] if how == "cut" else content[:-3] + b"xyz")
    with pytest.raises(RunError, match=r"resume"):
        JobCheckpoints({}, storage).get(network.digest)


def test_the_storage_keeps_no_more_than_the_run_does(tmp_path: Path) -> None:
    run = tmp_path / "run"
    executor = driver(run)
    store = Store(run / "checkpoints")
    job = Job("child", 1, 1, "0.0", "", 0, 1, GRAPH.to_json())
    digests = [store.put(morphs.init(GRAPH, seed=number)) for number in range(3)]
    jobs = [replace(job, slot=n, training=Training(weights=digest)) for n, digest in enumerate(digests)]
    for number, reading in enumerate(jobs[:2]):
        executor._send(reading)
        executor._running[number] = RunningJob(SimpleNamespace(number=number, clear=lambda: None), reading)  # type: ignore[arg-type]
    assert there(run) == set(digests[:2])
    del executor._running[0]
    for digest in digests[:2]:  # the second is being read
        store.remove(digest)
    executor._send(jobs[2])
    assert there(run) == set(digests[1:])
    later = driver(run)  # of another process
    store.remove(digests[2])
    later._send(replace(job, training=Training()))
    assert there(run) == {digests[1]}  # which only the first process knew of


def test_what_one_run_takes_away_another_of_the_same_networks_keeps(tmp_path: Path) -> None:
    digest = morphs.init(GRAPH, seed=0).digest
    reading = Job("child", 1, 1, "0.0", "", 0, 1, GRAPH.to_json(), Training(weights=digest))
    for run in (tmp_path / "one", tmp_path / "two"):  # of one seed
        executor = driver(run)
        Store(run / "checkpoints").put(morphs.init(GRAPH, seed=0))
        executor._send(reading)
    Store(tmp_path / "two" / "checkpoints").remove(digest)
    executor._send(replace(reading, training=Training()))
    assert (there(tmp_path / "one"), there(tmp_path / "two")) == ({digest}, set())
    moved = Path(shutil.copytree(tmp_path / "one", tmp_path / "moved"))
    driver(moved)._send(reading)  # a copy is the same run, and finds what the first has put there
    assert there(moved) == there(tmp_path / "one")


def test_a_fault_has_what_the_child_read_put_there_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    executor = driver(run)
    digest = Store(run / "checkpoints").put(morphs.init(GRAPH, seed=0))
    job = Job("child", 1, 1, "0.0", "", 0, 1, GRAPH.to_json(), Training(weights=digest))
    executor._send(job)
    request: Any = SimpleNamespace(number=0, clear=lambda: None)
    executor._running[0] = RunningJob(request, job)
    (told,) = executor._handle(Delivered(Done(0, None, "arrived damaged", fault=True), {}))
    assert told.fault
    assert not there(run)
