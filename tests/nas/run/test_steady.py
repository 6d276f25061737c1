"""Whole runs without generations: no barrier, the order of completions recorded and replayed."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, Shuffled, tiny

from nas.inspect.status import run_status
from nas.ledger import read
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import replay, resume, search
from nas.run.replay import replay_of


def run(folder: Path, order: int = 0, **changes: Any) -> Outcome:
    config = tiny(**{"policy": "evolution", "workers": 3, "children": 3, "moves_per_child": 1} | changes)
    return search(config, folder, Silent(), "", partial(Shuffled, order=order))


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(tmp_path_factory.mktemp("steady") / "run")


def test_evolution_from_seed_to_final_network(evolved: Outcome) -> None:
    view = evolved.view
    assert [len(view.generation(g)) for g in range(4)] == [1, 4, 4, 1]
    assert evolved.stopped == "generations"
    assert view.final is not None
    assert view.final.job.parent == (best := view.incumbent).key  # type: ignore[union-attr]
    assert best is not None
    assert best.result is not None
    scores = [r.result.scores["val_accuracy"] for r in view.complete if r.result and r.job.kind != "final"]
    assert best.result.scores["val_accuracy"] == max(scores)


def test_another_order_of_completions_decides_otherwise_and_is_replayed(
    evolved: Outcome, tmp_path: Path
) -> None:
    other = run(tmp_path / "other", order=1)
    assert other.view.digest != evolved.view.digest
    again = replay(evolved.run, tmp_path / "again", Silent(), "", executor=Inline, place={"workers": 1})
    assert again.view.digest == evolved.view.digest


def test_what_each_trial_saw_is_recorded(evolved: Outcome) -> None:
    again = replay_of(evolved.run, evolved.view, generational=False)
    seen = [again.ended(started) or frozenset() for started in range(1, 9)]
    assert again.ended(9) is None
    assert seen[0] == {"0.0"}
    assert all(a <= b for a, b in pairwise(seen))
    born = sorted(evolved.view.trials[1:-1], key=lambda record: record.number)
    for known, record in zip(seen, born, strict=True):
        assert record.job.parent in known


def test_an_interrupted_evolution_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    config = tiny(policy="evolution", workers=2, children=3, moves_per_child=1)
    folder = tmp_path / "run"
    assert search(config, folder, Recorder(stop_after=4), "", Inline).stopped == "interrupted"
    before = {record.key: record.job for record in read(folder).trials}
    outcome = resume(folder, Silent(), executor=Inline)
    assert {key: outcome.view.trial(key).job for key in before} == before
    again = replay(folder, tmp_path / "again", Silent(), "", executor=partial(Shuffled, order=2))
    assert again.view.digest == outcome.view.digest


@pytest.mark.parametrize("workers", [1, 2])
def test_random_walks_end_the_same_with_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    digests = [
        run(tmp_path / str(order), order, policy="random", workers=n, children=2).view.digest
        for order, n in enumerate((workers, 3))
    ]
    assert digests[0] == digests[1]


def test_halving_carries_weights_momentum_and_schedule_from_rung_to_rung(tmp_path: Path) -> None:
    config = tiny(generations=1, children=3, rungs=2, epochs=0.3)
    outcome = search(config, tmp_path / "one", Silent(), "", partial(Shuffled, order=0))
    first, second = outcome.view.generation(1)[:4], outcome.view.generation(1)[4:]
    assert [record.job.training.rung for record in (*first, *second)] == [0] * 4 + [1] * 2
    for record in second:
        before = outcome.view.trial(str(record.job.parent))
        assert before in first
        assert before.result is not None
        assert record.job.training.momentum == before.result.momentum
        assert record.job.training.weights == (before.result.last or before.result.weights)
        reached = before.job.training.start + before.job.steps
        assert record.job.training.start == reached
        assert record.job.training.total == reached + record.job.steps
    assert outcome.view.final is not None
    assert outcome.view.final.job.parent in {record.key for record in second}
    again = search(config, tmp_path / "two", Recorder(stop_after=6), "", Inline)
    assert again.stopped == "interrupted"
    resumed = resume(tmp_path / "two", Silent(), executor=partial(Shuffled, order=1))
    assert resumed.view.digest == outcome.view.digest


@pytest.mark.parametrize("objective", ["params", "latency"])
def test_a_front_is_searched_with_children_that_learn_from_their_parents(
    tmp_path: Path, objective: str
) -> None:
    outcome = run(tmp_path / "run", policy="pareto", objective=objective, generations=3, seed=1)
    assert outcome.view.final is not None
    assert len([record for record in outcome.view.complete if record.job.kind == "child"]) >= 6
    assert (outcome.view.notes.latency is not None) == (objective == "latency")
    found = run_status(outcome.run).front
    assert found is not None
    assert found.objective == objective
    costs, accuracies = zip(*[(point.cost, point.value) for point in found.points], strict=True)
    assert list(costs) == sorted(costs)
    assert list(accuracies) == sorted(set(accuracies))


@pytest.mark.parametrize("sampler", ["tpe", "predictor"])
def test_local_search_with_every_sampler(tmp_path: Path, sampler: str) -> None:
    outcome = run(tmp_path / "run", policy="local-search", move_sampler=sampler)
    assert all(record.state == "complete" for record in outcome.view.trials)
