"""Trials, configurations and small run folders for the tests of the command line."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import morphs
from nas.config.run_config import RunConfig
from nas.ledger import Job, Ledger, LedgerView, Result, TrialRecord
from nas.ledger.notes import Note, Notes
from nas.ledger.types import State

GRAPH = "x = input(size=[1, 4, 4])\nf = flatten(x)\nc = linear(f, features=3)\no = output(c)"
DEEPEN = (
    "deepen(node=r1, how=identity, channels=null, kernel=[3, 3], then=[1, 1], activation=relu, per_channel=true, "
    "groups=null, norm=false)"
)


def config(**changes: Any) -> RunConfig:
    known: dict[str, Any] = {"space": "digits", "data": "digits", "generations": 3, "children": 2}
    return RunConfig(**(known | changes))


def job(generation: int = 1, slot: int = 1, **changes: Any) -> Job:
    entries: dict[str, Any] = {
        "kind": "child",
        "parent": None if generation == 0 else f"{generation - 1}.0",
        "moves": "widen(node=c, to=6, how=replicate)",
        "seed": 0,
        "steps": 100,
        "graph": morphs.parse_graph(GRAPH).to_json(),
    }
    return Job(generation=generation, slot=slot, **(entries | changes))


def seed_job() -> Job:
    return job(0, 0, kind="seed", parent=None, moves="")


def final_job(generation: int) -> Job:
    return job(generation, 0, kind="final", moves="")


def result(accuracy: float = 0.9, weights: str = "0" * 64, **changes: Any) -> Result:
    entries: dict[str, Any] = {
        "fingerprint": morphs.parse_graph(GRAPH).fingerprint,
        "weights": weights,
        "scores": {"val_accuracy": accuracy, "val_loss": 0.3, "train_loss": 0.2},
        "params": 1234,
        "macs": 5678,
        "seconds": {"morph": 0.5, "train": 10.0, "evaluate": 2.0, "busy_from": 1e9, "busy_to": 1e9 + 12},
    }
    return Result(**(entries | changes))


def told(of: Job, accuracy: float = 0.9, **changes: Any) -> TrialRecord:
    return TrialRecord(of, State.COMPLETE, result(accuracy, **changes), None, 0, 0.0, 1.0)


def failed(of: Job, reason: str) -> TrialRecord:
    return TrialRecord(of, State.FAILED, None, reason, 0, 0.0, 1.0)


def view(*records: TrialRecord, notes: Mapping[str, Any] | None = None) -> LedgerView:
    return LedgerView(records, Notes(**(notes or {})))


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_run(
    run: Path, accuracies: tuple[float, ...] = (0.8, 0.9), *, final: bool = False, running: bool = False
) -> Path:
    """A real run folder: one trial a generation with these validation accuracies, 12 s of work in 20 s each."""
    described = {
        "config": config(generations=3).model_dump(mode="json"),
        "command": "nas search digits --seed 0",
    }
    network = morphs.init(morphs.parse_graph(GRAPH), seed=0)
    with Ledger.create(run, described) as ledger:
        weights = ledger.store.put(network)
        jobs = [seed_job(), *(job(g, 1) for g in range(1, len(accuracies)))]
        for number, (each, accuracy) in enumerate(zip(jobs, accuracies, strict=True)):
            start = time.time() + 20 * number
            seconds = {"train": 10.0, "evaluate": 2.0, "busy_from": start, "busy_to": start + 12}
            ledger.tell(ledger.ask(each), result(accuracy, weights, seconds=seconds))
        if final:
            scores = {"val_accuracy": 0.95, "val_loss": 0.2, "test_accuracy": 0.94, "test_loss": 0.25}
            ledger.tell(
                ledger.ask(final_job(len(accuracies))), result(weights=weights, scores=scores, seconds={})
            )
        if running:
            ledger.ask(job(len(accuracies), 1))
        ledger.note(Note.WALL, 20.0 * len(accuracies))
    return run
