"""What a worker does with one job."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_support import tiny

import morphs
from nas.base.errors import LedgerDamaged, RunError
from nas.data import ImageSplit, SearchData, load_search_data, load_test_split
from nas.execute.task import TaskContext, attempt, networks, perform
from nas.ledger import Job, Store
from nas.ledger.types import Training
from nas.run.plan import Plan, make_plan, seed_job


@pytest.fixture(scope="module")
def data() -> SearchData:
    return load_search_data("digits", None, 3)


@pytest.fixture(scope="module")
def plan(data: SearchData) -> Plan:
    return make_plan(tiny(), data)


def forbidden() -> ImageSplit:
    raise AssertionError("the test split was asked for")


def quiet(step: int, steps: int, loss: float) -> None:
    """Nobody watches."""


@pytest.fixture
def site(tmp_path: Path, plan: Plan) -> TaskContext:
    return TaskContext(Store(tmp_path), plan.config.train, "cpu", 1, forbidden)


@pytest.fixture
def seeded(plan: Plan, site: TaskContext, data: SearchData) -> str:
    """The weights of the trained seed network, which is in the store."""
    return perform(seed_job(plan), site, data, quiet).weights


def child(plan: Plan, weights: str, moves: str = "", **changes: Any) -> Job:
    graph = plan.space.seed
    for move in morphs.parse_chain(moves):
        graph = move.reshape(graph)
    job = Job("child", 1, 1, "0.0", moves, 77, 4, graph.to_json(), Training(weights=weights))
    return replace(job, **changes)


WIDEN = "widen(node=c1, to=12, how=replicate)"


def test_the_same_job_gives_the_same_weights_and_scores(
    plan: Plan, site: TaskContext, data: SearchData, tmp_path: Path, seeded: str
) -> None:
    elsewhere = replace(site, store=Store(tmp_path / "elsewhere"))
    again = perform(seed_job(plan), elsewhere, data, quiet)
    assert again.weights == seeded
    results = [perform(child(plan, seeded, WIDEN), where, data, quiet) for where in (site, elsewhere)]
    assert results[0].weights == results[1].weights != seeded
    assert results[0].scores == results[1].scores
    other = perform(child(plan, seeded, WIDEN, seed=78), site, data, quiet)
    assert other.weights != results[0].weights


def test_a_job_has_the_runs_number_of_threads_whatever_the_process_has(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    """As where OMP_NUM_THREADS says so. Sums over more threads are other sums: they came to other weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert perform(seed_job(plan), site, data, quiet).weights == seeded
        assert networks(seed_job(plan), site, data).judged.digest == seeded
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    more = perform(seed_job(plan), replace(site, threads=4), data, quiet)
    assert more.weights != seeded  # else the two above show nothing


def test_a_result_says_what_came_of_the_job(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    job = child(plan, seeded, f"{WIDEN}; {WIDEN.replace('12', '16')}")
    result = perform(job, site, data, quiet)
    graph = morphs.graph_from_json(job.graph)
    assert result.fingerprint == graph.fingerprint
    assert (result.params, result.macs) == (morphs.cost(graph).params, morphs.cost(graph).macs)
    assert result.drift_eval is not None
    assert result.drift_train is not None
    assert 0 <= result.drift_eval < 1e-4
    assert {"val_accuracy", "val_loss", "train_loss"} == set(result.scores)
    assert result.seconds["busy_from"] < result.seconds["busy_to"]
    kept = site.store.get(result.weights)
    assert kept.graph == graph


def test_the_parents_checkpoint_is_left_as_it_was(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    folder = site.store.path(seeded)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    perform(child(plan, seeded, WIDEN), site, data, quiet)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["seed", "parent", "child"])
def test_only_the_final_training_asks_for_the_test_split(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str, kind: str
) -> None:
    assert "test_accuracy" not in perform(child(plan, seeded, kind=kind), site, data, quiet).scores


def test_the_final_training_reads_the_test_split_once(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    calls: list[ImageSplit] = []

    def load() -> ImageSplit:
        calls.append(load_test_split("digits", None, 3))
        return calls[-1]

    scores = perform(child(plan, seeded, kind="final"), replace(site, load_test=load), data, quiet).scores
    assert len(calls) == 1
    assert 0 <= scores["test_accuracy"] <= 1


def test_without_steps_a_network_is_scored_as_it_is(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    result = perform(child(plan, seeded, steps=0), site, data, quiet)
    assert result.weights == seeded
    assert "train_loss" not in result.scores


def test_progress_ends_with_the_last_step(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    told: list[tuple[int, int]] = []
    perform(child(plan, seeded), site, data, lambda step, steps, loss: told.append((step, steps)))
    assert told[-1] == (4, 4)


def burst(*_: object) -> None:
    raise ValueError("the watcher burst")


def memory(*_: object) -> None:
    raise MemoryError


def large(*_: object) -> None:
    torch.empty(2**55)


Attempt = Callable[..., Any]


@pytest.mark.parametrize(
    ("change", "progress", "reason"),
    [
        ({"moves": "widen(node=nowhere, to=12, how=replicate)"}, quiet, "nowhere"),
        ({"moves": "explode(node=c1)"}, quiet, "there is no move explode"),
        ({"moves": WIDEN}, quiet, WIDEN),
        ({}, burst, "it raised ValueError: the watcher burst"),
        ({}, memory, "it ran out of memory; set a limit"),
        ({}, large, "it ran out of memory; set a limit"),
    ],
)
def test_what_ends_a_candidate_is_its_reason(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str, change: Any, progress: Any, reason: str
) -> None:
    done = attempt(5, child(plan, seeded, **({"moves": ""} | change)) if "moves" not in change else
                   replace(child(plan, seeded), **change), site, data, progress)  # fmt: skip
    assert (done.number, done.result, done.fault) == (5, None, False)
    assert reason in str(done.reason)


def test_divergence_ends_a_candidate(plan: Plan, site: TaskContext, data: SearchData, seeded: str) -> None:
    wild = replace(site, config=replace(site.config, lr=1e30))
    done = attempt(5, child(plan, seeded), wild, data, quiet)
    assert not done.fault
    assert "the loss became" in str(done.reason) or "finite" in str(done.reason)


def test_what_is_no_fault_of_the_candidate_says_so(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    done = attempt(5, child(plan, "ab" * 32), site, data, quiet)
    assert done.fault
    assert "not in" in str(done.reason)
    with pytest.raises(RunError) as caught:
        perform(child(plan, "ab" * 32), site, data, quiet)
    assert not isinstance(caught.value, LedgerDamaged)


def test_a_driver_that_is_gone_is_no_reason(
    plan: Plan, site: TaskContext, data: SearchData, seeded: str
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        attempt(5, child(plan, seeded), site, data, gone)
