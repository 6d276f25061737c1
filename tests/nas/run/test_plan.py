"""From views to jobs."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_support import TINY, record_of, tiny

import morphs
from morphs import AddSkip, Deepen, GrowKernel, Limits, Widen, cost
from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.config.run_config import RunConfig
from nas.data import SearchData, load_search_data
from nas.ledger import Job, LedgerView
from nas.ledger.types import Training
from nas.policies.hill_climb import HillClimb
from nas.policies.sampling import SpaceMoves, Uniform, graph_of
from nas.registry.configure import check_config
from nas.registry.defaults import REGISTRY
from nas.run.plan import Plan, final_job, last_generation, lineage_steps, make_plan, next_jobs, seed_job
from search_spaces import Space

GOLDEN = Path(__file__).with_name("golden") / "decisions.json"

# A space of this test's own: those of the package may be tuned without breaking what is compared here.
SPACE = Space(
    morphs.parse_graph("""
x = input(size=[1, 8, 8])
c1 = conv2d(x, channels=8, kernel=3, padding=1)
r1 = relu(c1)
m1 = max_pool2d(r1, kernel=2)
c2 = conv2d(m1, channels=16, kernel=3, padding=1)
r2 = relu(c2)
f = flatten(r2)
fc = linear(f, features=10)
y = output(fc)
"""),
    (
        (Widen, {"factor": (1.5, 2), "how": ("replicate", "zero")}),
        (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
        (AddSkip, {"reach": (2,)}),
        (GrowKernel, {"max_kernel": (5,)}),
    ),
)
IMAGES = 1000


def plan_of(**changes: Any) -> Plan:
    config = tiny(**({"epochs": 2} | changes))
    moves = Uniform(SpaceMoves(SPACE, Limits(params=60_000)))
    return Plan(config, SPACE, HillClimb(moves, config.children, config.moves_per_child), IMAGES, 100)


def play(plan: Plan, generations: int) -> LedgerView:
    """A search whose scores are drawn by the jobs' seeds, not trained: the same on every machine."""
    view = LedgerView((record_of(seed_job(plan), 0.5),))
    for generation in range(1, generations + 1):
        jobs = next_jobs(plan, view)
        assert {job.generation for job in jobs} == {generation}
        told = tuple(record_of(job, derive(job.seed, "luck") % 1000 / 1000) for job in jobs)
        view = LedgerView(view.trials + told)
    return view


@pytest.fixture(scope="module")
def played() -> LedgerView:
    return play(plan_of(children=3), 4)


@pytest.fixture(scope="module")
def data() -> SearchData:
    return load_search_data("digits", None, 3)


def test_decisions_stay_as_they_are(played: LedgerView) -> None:
    """A golden run. After a change that is meant to decide otherwise: NAS_GOLDEN=write pytest THIS_FILE."""
    decided = [
        {
            "key": record.key,
            "kind": record.job.kind,
            "parent": record.job.parent,
            "moves": record.job.moves,
            "seed": record.job.seed,
            "steps": record.job.steps,
            "fingerprint": graph_of(record).fingerprint,
        }
        for record in played.trials
    ]
    if os.environ.get("NAS_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(decided, indent=1) + "\n")
    assert decided == json.loads(GOLDEN.read_text())


def test_the_seed_job_trains_fresh_weights_for_the_given_epochs() -> None:
    job = seed_job(plan_of())
    assert (job.kind, job.key, job.parent, job.moves, job.training) == ("seed", "0.0", None, "", job.training)
    assert job.training == Training(start=0, total=job.steps, decay=0, batches=job.training.batches)
    assert seed_job(plan_of(schedule="restarts")).training == Training()
    assert morphs.graph_from_json(job.graph) == SPACE.seed
    assert job.steps == round(2 * IMAGES / 64)


def test_competitors_cost_the_same(played: LedgerView) -> None:
    """Within one step of 3 x the incumbent's multiply-adds x images x epochs."""
    for generation in range(1, 5):
        parent, *children = played.generation(generation)
        allotment = 3 * cost(graph_of(parent)).macs * IMAGES * 2
        assert len(children) == 3
        for record in (parent, *children):
            step = 3 * cost(graph_of(record)).macs * 64
            assert abs(record.job.steps * step - allotment) <= max(
                step / 2, step if record.job.steps == 1 else 0
            )


def test_competitors_share_their_parent_and_are_numbered(played: LedgerView) -> None:
    for generation in range(1, 5):
        records = played.generation(generation)
        assert [record.job.slot for record in records] == [0, 1, 2, 3]
        assert [record.job.kind for record in records] == ["parent", "child", "child", "child"]
        assert len({record.job.parent for record in records}) == 1
        assert len({record.job.seed for record in records}) == 4
        for record in records:
            chain = morphs.parse_chain(record.job.moves)
            graph = graph_of(played.trial(str(record.job.parent)))
            for move in chain:
                graph = move.reshape(graph)
            assert graph == graph_of(record)


def test_a_generation_asked_again_is_the_same_whatever_came_after(played: LedgerView) -> None:
    plan = plan_of(children=3)
    for generation in range(1, 5):
        asked = tuple(record.job for record in played.generation(generation))
        before = tuple(record for record in played.trials if record.job.generation < generation)
        for told in range(len(asked)):
            assert next_jobs(plan, LedgerView(before + played.generation(generation)[:told])) == asked[told:]


def test_nothing_left_to_try() -> None:
    config = tiny()
    tight = Limits(params=cost(SPACE.seed).params, macs=cost(SPACE.seed).macs, nodes=len(SPACE.seed))
    plan = Plan(config, SPACE, HillClimb(Uniform(SpaceMoves(SPACE, tight)), 2, 1), IMAGES, 100)
    assert next_jobs(plan, play(plan, 0)) == ()


def test_the_final_job_goes_on_from_the_best_weights(played: LedgerView) -> None:
    plan = plan_of(children=3)
    best = plan.policy.incumbent(played)
    job = final_job(plan, played, 50)
    assert (job.kind, job.key, job.parent, job.steps, job.moves) == ("final", "5.0", best.key, 50, "")
    assert job.graph == best.job.graph
    assert best.result is not None
    start = best.job.training.start + best.job.steps
    assert job.training == Training(best.result.weights, None, start, start + 50, job.training.decay)
    assert job.training.decay == min(50, round(0.25 * (lineage_steps(plan, played) + 50)))
    alone = final_job(plan_of(children=3, schedule="restarts"), played, 50)
    assert alone.training == Training(weights=best.result.weights)


def test_the_final_job_may_start_afresh(played: LedgerView) -> None:
    plan = plan_of(children=3, final="restart")
    assert final_job(plan, played, 50).training == Training(total=50, decay=12)
    alone = plan_of(children=3, final="restart", schedule="restarts")
    assert final_job(alone, played, 50).training == Training()
    assert final_job(plan, played, 0).training.weights  # fresh weights without training would be no network


def test_a_final_job_after_one_that_failed_takes_the_next_slot(played: LedgerView) -> None:
    plan = plan_of(children=3)
    first = final_job(plan, played, 50)
    again = final_job(plan, LedgerView((*played.trials, record_of(first, None))), 50)
    assert again.key == "5.1"
    assert again.seed != first.seed
    assert replace(again, slot=0, seed=first.seed) == first


def test_the_lineages_cost_is_counted_in_steps_of_its_last_network() -> None:
    plan = plan_of()
    root = record_of(seed_job(plan), 0.5)
    assert lineage_steps(plan, LedgerView((root,))) == root.job.steps
    wide = morphs.parse("widen(node=c1, to=16, how=replicate)").reshape(SPACE.seed)
    child = record_of(Job("child", 1, 1, "0.0", "", 0, 20, wide.to_json()), 0.9)
    aside = record_of(Job("parent", 1, 0, "0.0", "", 0, 999, SPACE.seed.to_json()), 0.1)
    expected = 20 + root.job.steps * cost(SPACE.seed).macs / cost(wide).macs
    assert lineage_steps(plan, LedgerView((root, aside, child))) == round(expected)


def test_the_last_generation_leaves_the_final_training_out(played: LedgerView) -> None:
    assert last_generation(LedgerView(())) == 0
    assert last_generation(played) == 4
    final = record_of(final_job(plan_of(children=3), played, 5), 0.5)
    assert last_generation(LedgerView((*played.trials, final))) == 4


@pytest.mark.parametrize(
    ("workers", "children", "rounds"), [(1, 4, 5), (2, 4, 3), (5, 4, 1), (64, 4, 1), (2, 3, 2)]
)
def test_rounds(workers: int, children: int, rounds: int) -> None:
    assert plan_of(workers=workers, children=children).rounds == rounds


def test_a_plan_binds_the_space_to_the_data(data: SearchData) -> None:
    plan = make_plan(tiny(limits={"params": 10_000}), data)
    assert plan.images == len(data.train)
    assert plan.space.seed.shape("x") == data.input_shape
    assert isinstance(plan.policy, HillClimb)
    assert plan.policy.sampler == Uniform(SpaceMoves(plan.space, Limits(params=10_000, batch=64)))


def test_a_seed_network_beyond_a_limit_is_refused(data: SearchData) -> None:
    config: RunConfig = tiny(limits={"macs": 100})
    with pytest.raises(
        UserError, match=r'the seed network of space "digits": macs would be \d+.*; raise that limit'
    ):
        make_plan(config, data)


def test_a_space_with_a_bad_menu_is_refused(data: SearchData) -> None:
    registry = REGISTRY.with_(
        spaces={"odd": lambda shape, classes: Space(SPACE.seed, ((Widen, {"factors": (2,)}),))}
    )
    with pytest.raises(
        UserError, match=r'search: space "odd": widen: its menu has no choice .factors.; choose'
    ):
        make_plan(check_config({**TINY, "space": "odd"}, registry), data, registry)
