"""One schedule from the seed network to the end: what each trial starts from, and what it costs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_support import Inline, tiny

import morphs
from morphs import cost, graph_from_json
from nas.config.run_config import RunConfig
from nas.execute.task import TaskContext, _start, networks
from nas.inspect.fsck import check
from nas.ledger import LedgerView, Store
from nas.ledger.sample import sample_from
from nas.ledger.types import Kind
from nas.run.charge import spent, trial_cost
from nas.run.events import Silent
from nas.run.lifecycle import load_data, search
from nas.run.pacing import LEAST_STRETCH, pace, paced


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LedgerView]:
    run = tmp_path_factory.mktemp("lineage") / "run"
    return run, search(tiny(generations=3, epochs=0.3), run, Silent(), "", Inline).view


def test_a_trial_goes_on_where_its_parent_stopped(grown: tuple[Path, LedgerView]) -> None:
    view = grown[1]
    assert any(record.result.last for record in view.complete if record.result)
    for record in view.complete:
        training = record.job.training
        if record.job.kind is Kind.SEED:
            assert (training.start, training.weights, training.momentum) == (0, None, None)
            continue
        parent = view.trial(str(record.job.parent))
        assert parent.result is not None
        assert training.start == parent.job.training.start + parent.job.steps
        assert (training.weights, training.momentum) == (parent.result.last, parent.result.momentum)
        assert training.momentum is not None


def test_rivals_train_on_the_same_batches_and_generations_on_others(grown: tuple[Path, LedgerView]) -> None:
    seeds = [{r.job.training.batches for r in grown[1].generation(number)} for number in range(4)]
    assert all(len(seeds[number]) == 1 for number in range(4))
    assert len(set.union(*seeds)) == 4


def test_only_the_final_training_decays(grown: tuple[Path, LedgerView]) -> None:
    view = grown[1]
    assert {record.job.training.decay for record in view.searched} == {0}
    assert view.final is not None
    last = view.final.job
    assert last.training.total == last.training.start + last.steps
    assert last.training.decay == last.steps  # of a quarter of the training, all decays
    assert view.final.result is not None
    assert (view.final.result.last, view.final.result.momentum) == (None, None)


def test_momentum_follows_the_moves(grown: tuple[Path, LedgerView]) -> None:
    """What a child starts with is its parent's momentum, gathered as the child's weights were."""
    run, view = grown
    config = tiny(generations=3, epochs=0.3)
    data = load_data(config)
    best = view.final
    assert best is not None
    made: dict[str, morphs.Network] = {}

    class Kept:
        def get(self, digest: str) -> morphs.Network:
            return made[digest] if digest in made else Store(run / "checkpoints").get(digest)

        def put(self, network: morphs.Network) -> str:
            made[network.digest] = network
            return network.digest

    site = TaskContext(Kept(), config.train, "cpu", 1, lambda: data.val)
    child = next(r for r in view.trials if r.job.kind is Kind.CHILD and r.job.generation == 1)
    seed = view.trial("0.0")
    assert seed.result is not None
    for network in networks(seed.job, site, data).stored:  # its last weights were removed at the end
        site.store.put(network)
    begun = _start(child.job, site, data)
    (momentum,) = begun.state
    kept = site.store.get(str(child.job.training.momentum))
    untouched = [key for key in momentum.weights if key in kept.weights]
    same = [
        key
        for key in untouched
        if momentum.weights[key].shape == kept.weights[key].shape
        and torch.equal(momentum.weights[key], kept.weights[key])
    ]
    assert same
    assert any(bool(momentum.weights[key].any()) for key in same)
    new = [key for key in momentum.weights if key not in kept.weights and key in begun.network.graph.params]
    trainable = [key for key in new if begun.network.graph.params[key].trainable]
    assert all(not bool(momentum.weights[key].any()) for key in trainable)


def test_every_trial_of_a_lineage_can_be_judged_by_image(grown: tuple[Path, LedgerView]) -> None:
    for record in grown[1].searched:
        assert record.result is not None
        assert record.result.sample is not None
        sample = sample_from(record.result.sample)
        assert sample.hits.mean() == pytest.approx(record.result.scores["val_accuracy"])
        assert sample.losses.astype(float).mean() == pytest.approx(record.result.scores["val_loss"], rel=1e-2)


def test_what_only_training_needs_is_removed_at_the_end(grown: tuple[Path, LedgerView]) -> None:
    run, view = grown
    weights = {record.result.weights for record in view.complete if record.result}
    assert set(Store(run / "checkpoints").digests()) == weights
    assert check(run).clean


@pytest.mark.parametrize("weights", ["inherit", "fresh"])
def test_a_cost_is_spent_and_not_more(tmp_path: Path, weights: str) -> None:
    macs = cost(
        graph_from_json(
            search(tiny(generations=0), tmp_path / "seed", Silent(), "", Inline).view.trials[0].job.graph
        )
    ).macs
    whole = 3.0 * macs * 64 * 900
    config = tiny(generations=2, epochs=3.0, cost=whole, weights=weights, final_share=0.5, grow_share=0.5)
    view = search(config, tmp_path / "run", Silent(), "", Inline).view
    data = load_data(config)
    used = spent(view, config, len(data.val))
    assert 0.97 * whole < used <= whole
    assert len(view.trials) > 4
    for record in view.searched:
        if weights == "fresh":
            assert record.job.training.weights is None
        assert trial_cost(record.job, config, len(data.val)) > 3 * record.job.steps * 64 * macs


def test_a_search_of_no_generations_trains_the_seed_network(tmp_path: Path) -> None:
    view = search(tiny(generations=0), tmp_path / "run", Silent(), "", Inline).view
    assert [record.job.kind for record in view.trials] == [Kind.SEED, Kind.FINAL]


def test_the_pace_fits_the_budget() -> None:
    for steps in (10, 1000, 4000, 10_000, 50_000, 10**6):
        chosen = pace(steps, rivals=4)
        assert chosen.growth >= 1
        assert 1 <= chosen.stretch <= steps
        if chosen.generations:
            assert chosen.stretch >= min(LEAST_STRETCH, steps * 0.01)
            assert chosen.stretch * (1 + 4 * chosen.generations) * chosen.growth**0.5 <= 0.21 * steps + 1
    assert pace(10, 4).generations == 0
    assert pace(10**6, 4).generations > pace(10_000, 4).generations > 0


@pytest.mark.parametrize(("slower", "threads"), [(0.6, 2), (1.4, 1)])
def test_a_lone_child_has_all_cores_if_that_is_faster(slower: float, threads: int) -> None:
    """With one child at a time, and a budget of time; a cost decides the same on every machine."""

    def timed(threads: int) -> float:
        return 0.01 * (1, slower)[threads - 1]

    assert paced(unpaced(budget=600.0), 40_000, 1000, 2, timed).threads == threads
    assert paced(unpaced(budget=600.0, children=4), 40_000, 1000, 2, timed).threads == 1
    assert paced(unpaced(budget=600.0, threads=1), 40_000, 1000, 2, timed).threads == 1
    assert paced(unpaced(cost=1e12), 40_000, 1000, 2, timed).threads == 1


def unpaced(**settings: Any) -> RunConfig:
    """A tiny configuration without what a pace decides."""
    given = tiny(**settings).model_dump(exclude_unset=True)
    decided = {"generations", "epochs", "threads", "children"} - settings.keys()
    return RunConfig.model_validate({name: value for name, value in given.items() if name not in decided})


def test_what_is_given_is_not_paced() -> None:
    def timed(threads: int) -> float:
        raise AssertionError

    free = unpaced(cost=1e12)
    chosen = paced(free, 40_000, 1000, 2, timed)
    assert chosen.generations != free.generations
    assert chosen.limits["macs"] >= 40_000
    given = tiny(
        cost=1e12, generations=7, epochs=2.5, limits={"macs": 123_456}, grow_share=0.4, threads=1,
        policy_settings={"parent": True},
    )  # fmt: skip
    assert paced(given, 40_000, 1000, 2, timed) == given
    restarts: dict[str, Any] = {"cost": 1e12, "schedule": "restarts"}
    assert paced(tiny(**restarts), 40_000, 1000, 2, timed) == tiny(**restarts)
