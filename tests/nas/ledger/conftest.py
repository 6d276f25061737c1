"""Samples for the tests of the ledger: small networks, jobs and results, and the ways to damage what is on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import morphs
import nas.ledger
from nas.ledger import Job, Ledger, Result

torch.set_num_threads(1)

GRAPH = """
x = input(size=[1, 4, 4])
f = flatten(x)
c = linear(f, features=3)
o = output(c)
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes that a test starts import what is tested, wherever pytest was started."""
    monkeypatch.setenv("PYTHONPATH", str(Path(nas.ledger.__file__ or "").parents[2]))


@pytest.fixture(scope="session")
def graph() -> morphs.ArchGraph:
    return morphs.parse_graph(GRAPH.strip())


@pytest.fixture(scope="session")
def network(graph: morphs.ArchGraph) -> Callable[[int], morphs.Network]:
    return lambda seed=0: morphs.init(graph, seed=seed)


@pytest.fixture(scope="session")
def job(graph: morphs.ArchGraph) -> Callable[..., Job]:
    def make(generation: int = 0, slot: int = 0, **changes: Any) -> Job:
        entries: dict[str, Any] = {
            "kind": "child",
            "parent": None if generation == 0 else f"{generation - 1}.0",
            "moves": "widen(node=c, to=6, how=replicate)",
            "seed": 1000 * generation + slot,
            "steps": 10,
            "graph": graph.to_json(),
            "memo": {"params": 51},
        }
        return Job(generation=generation, slot=slot, **(entries | changes))

    return make


@pytest.fixture(scope="session")
def result(graph: morphs.ArchGraph) -> Callable[..., Result]:
    def make(weights: str, **changes: Any) -> Result:
        entries: dict[str, Any] = {
            "fingerprint": graph.fingerprint,
            "weights": weights,
            "scores": {"val_accuracy": 0.5, "val_loss": 1.25},
            "params": 51,
            "macs": 48,
            "drift_eval": 1e-16,
            "seconds": {"train": 0.5},
        }
        return Result(**(entries | changes))

    return make


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def original(
    tmp_path_factory: pytest.TempPathFactory,
    job: Callable[..., Job],
    result: Callable[..., Result],
    network: Callable[[int], morphs.Network],
) -> Path:
    run = tmp_path_factory.mktemp("original") / "run"
    with Ledger.create(run, {"space": "digits"}) as ledger:
        for slot in range(2):
            weights = ledger.store.put(network(slot))
            number = ledger.ask(job(0, slot))
            ledger.tell(number, result(weights, scores={"val_accuracy": 0.5 + slot / 10, "val_loss": 1.0}))
        ledger.fail(ledger.ask(job(0, 2)), "loss is nan at step 7")
        ledger.ask(job(1, 0))
    return run


@pytest.fixture
def filled(original: Path, run: Path) -> Path:
    """A closed run with two complete trials, a failed one and a running one."""
    shutil.copytree(original, run)
    return run


def flip(path: Path, position: int, mask: int = 0xFF) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


@pytest.fixture
def flip_byte() -> Callable[..., None]:
    return flip
