"""A made-up run: real moves on a small graph, invented scores. For the report's tests only."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import morphs
from morphs import ArchGraph, Limits, graph_from_json, parse_graph
from nas.inspect.status import RunStatus
from nas.ledger import Job, Ledger, LedgerView, Result, TrialRecord
from nas.ledger.notes import Note, Notes
from nas.ledger.types import State

SEED = parse_graph(
    """x = input(size=[1, 8, 8])
c1 = conv2d(x, channels=4, kernel=3, padding=1)
r1 = relu(c1)
c2 = conv2d(r1, channels=4, kernel=3, padding=1)
r2 = relu(c2)
g = adaptive_avg_pool2d(r2)
f = flatten(g)
fc = linear(f, features=10)
y = output(fc)"""
)
OPTIONS: dict[str, dict[str, Any]] = {"deepen": {"how": ("identity",)}, "widen": {"factor": (1.5,)}}
LIMITS = Limits(params=60_000)
START = 1_700_000_000.0
EVIL = "exit code 1: <script>alert('x')</script> & \"</script>\""
FACTS: dict[str, Any] = {
    "config": {"space": "digits", "data": "digits", "seed": 3, "limits": {"params": 60000}, "budget": None,
               "train": {"lr": 0.1, "batch_size": 64}, "keep": "<b>best</b>"},
    "command": "nas search digits --generations 6 --children 4 --seed 3",
    "versions": {"python": "3.11.9", "torch": "2.10.0", "optuna": "5.0.0"},
    "machine": {"processor": "made up", "cores": 2},
    "data": {"name": "digits", "classes": list("0123456789"), "images": {"train": 1294, "validation": 143}},
}  # fmt: skip


def example_view(generations: int = 6, children: int = 4, seed: int = 3, final: bool = True) -> LedgerView:
    """A whole run: a seed trial, generations of an unchanged parent and children, a final training."""
    draw = random.Random(seed)
    records = [_complete(Job("seed", 0, 0, None, "", 1, 100, SEED.to_json()), 0.71, draw, 0.0)]
    best, time = records[0], 20.0
    for generation in range(1, generations + 1):
        records += (rivals := _generation(best, generation, children, draw, time))
        best = max((record for record in rivals if record.result), key=_accuracy)
        time += 30.0 * len(rivals)
    if final:
        job = Job("final", generations + 1, 0, best.key, "", 9, 400, best.job.graph)
        records.append(
            _complete(job, min(1.0, _accuracy(best) + 0.01), draw, time, test_accuracy=0.9631, test_loss=0.12)
        )
    numbered = [replace(record, number=number) for number, record in enumerate(records)]
    return LedgerView(tuple(numbered), Notes(wall=time + 70.0, stopped="generations"))


def with_running(view: LedgerView) -> LedgerView:
    """`view` as it was while its last two searched trials ran."""
    kept = [record for record in view.trials if record.job.kind != "final"]
    running = [replace(r, state=State.RUNNING, result=None, reason=None, finished=None) for r in kept[-2:]]
    return LedgerView((*kept[:-2], *running), Notes(wall=100.0))


def standing_of(view: LedgerView, state: str) -> RunStatus:
    return RunStatus(
        run="runs/digits-digits-001", state=state, space="digits", data="digits", seed=3, generation=6, generations=6,
        budget=None, complete=len(view.complete),
        failed=sum(trial.state is State.FAILED for trial in view.trials),
        running=sum(trial.running for trial in view.trials), best_trial=None, best_moves=None,
        best_val_accuracy=None, best_val_loss=None, best_params=None,
        test_accuracy=view.final.result.scores.get("test_accuracy") if view.final and view.final.result else None,
        test_score=view.final.result.tested if view.final and view.final.result else None,
        best_value=view.best.result.value if view.best and view.best.result else None,
        seconds=view.notes.wall, overhead=0.021, disk_bytes=1, keep="all", checkpoints=len(view.complete),
        checkpoint_bytes=1, removed=0, digest=view.digest,
        driver="process 12 on <host>", command=FACTS["command"], problem=None, next="nas resume runs/digits-digits-001",
    )  # fmt: skip


def write_run(run: Path, view: LedgerView) -> None:
    """The same run on disk, through the real ledger and store."""
    with Ledger.create(run, FACTS) as ledger:
        for record in view.trials:
            number = ledger.ask(record.job)
            if record.result:
                weights = ledger.store.put(morphs.init(graph_from_json(record.job.graph), record.job.seed))
                ledger.tell(number, replace(record.result, weights=weights))
            elif record.state == "failed":
                ledger.fail(number, record.reason or "")
        ledger.note(Note.WALL, view.notes.wall)


def _generation(
    best: TrialRecord, generation: int, children: int, draw: random.Random, time: float
) -> list[TrialRecord]:
    parent = Job("parent", generation, 0, best.key, "", draw.randrange(10**6), 100, best.job.graph)
    start = _accuracy(best)
    rise = 0.25 * (0.98 - start)
    records = [_complete(parent, start + 0.5 * rise * draw.random(), draw, time)]
    for slot in range(1, children + 1):
        moves, graph = _chain(graph_from_json(best.job.graph), draw)
        text = "; ".join(map(str, moves))
        job = Job("child", generation, slot, best.key, text, draw.randrange(10**6), 90, graph.to_json())
        at = time + 30 * slot
        if slot == 3 and generation % 2 == 0:
            reason = EVIL if generation == 2 else "loss is NaN at step 17"
            records.append(TrialRecord(job, State.FAILED, None, reason, 0, START + at, START + at + 9))
        else:
            records.append(_complete(job, start + rise * draw.uniform(-0.6, 1.1), draw, at))
    return records


def _chain(graph: ArchGraph, draw: random.Random) -> tuple[list[morphs.Move], ArchGraph]:
    """Two random moves of different kinds, fewer where the limits leave no more."""
    moves: list[morphs.Move] = []
    for kind in draw.sample(morphs.MOVES, len(morphs.MOVES)):
        if len(moves) == 2:
            break
        sites = list(kind.sites(graph, LIMITS, OPTIONS.get(kind.name)))
        if sites:
            move = draw.choice(sites)
            moves, graph = [*moves, move], move.reshape(graph)
    return moves, graph


def _complete(job: Job, accuracy: float, draw: random.Random, time: float, **scores: float) -> TrialRecord:
    graph = graph_from_json(job.graph)
    spent = morphs.cost(graph)
    exact = "insert_norm" not in job.moves
    train, begin = draw.uniform(15, 25), START + time
    result = Result(
        fingerprint=graph.fingerprint,
        weights=hashlib.sha256(f"{job.key}".encode()).hexdigest(),
        scores={"val_accuracy": accuracy, "val_loss": 1 - accuracy, "train_loss": 0.3, **scores},
        params=spent.params,
        macs=spent.macs,
        drift_eval=draw.choice((0.0, 10 ** draw.uniform(-16, -6))) if job.moves else None,
        drift_train=(10 ** draw.uniform(-16, -6) if exact else draw.uniform(0.01, 0.2))
        if job.moves
        else None,
        seconds={
            "train": train,
            "evaluate": 1.0,
            "morph": 0.2,
            "busy_from": begin,
            "busy_to": begin + train + 1,
        },
    )
    return TrialRecord(job, State.COMPLETE, result, None, 0, begin, begin + train + 2)


def _accuracy(record: TrialRecord) -> float:
    assert record.result is not None
    return record.result.scores["val_accuracy"]
