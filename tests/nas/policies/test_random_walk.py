"""Random walks side by side."""

from dataclasses import replace

from engine_support import record_of
from search_support import ROOT, play, started, uniform

from nas.ledger import LedgerView
from nas.ledger.view import score
from nas.policies.random_walk import RandomWalk

WALKS = RandomWalk(uniform(), walks=3, moves_per_child=1)


def test_each_walk_goes_on_from_its_own_last_step() -> None:
    played = play(WALKS, 12)
    for record in played.trials[1:]:
        job = record.job
        before = "0.0" if job.generation == 1 else f"{job.generation - 1}.{job.slot}"
        assert job.parent in (before, "0.0")  # the seed once more where no legal move is left
    assert {record.job.slot for record in played.trials[1:]} == {0, 1, 2}
    assert WALKS.incumbent(played) == max(played.trials, key=score)


def test_neither_workers_nor_the_order_of_completions_nor_scores_matter() -> None:
    def decided(view: LedgerView) -> dict[str, str]:
        return {record.key: record.job.moves for record in view.trials}

    one = decided(play(WALKS, 12))
    same_scores = decided(play(WALKS, 12, score=lambda _: 0.1))
    assert same_scores == one
    for workers in (2, 3):  # how far each walk came may differ
        other = decided(play(WALKS, 12, workers))
        shared = one.keys() & other.keys()
        assert len(shared) > 8
        assert {key: other[key] for key in shared} == {key: one[key] for key in shared}
    assert decided(play(WALKS, 12, seed=1)) != one


def test_a_step_that_failed_is_passed_over() -> None:
    first = WALKS.propose(LedgerView((ROOT,)), 0)[0]
    failed = record_of(started(first, 1).job, None)
    assert [p.key for p in WALKS.propose(LedgerView((ROOT, failed)), 0)] == ["1.1"]
    others = tuple(replace(failed, job=replace(failed.job, slot=slot)) for slot in (1, 2))
    again = WALKS.propose(LedgerView((ROOT, failed, *others)), 0)[0]
    assert (again.key, again.parent) == ("2.0", "0.0")


def test_a_worker_waits_where_every_walk_is_at_work() -> None:
    at_work = tuple(
        replace(started(WALKS.propose(LedgerView((ROOT,)), 0)[0], n), job=replace(job, slot=n))
        for n, job in enumerate([started(WALKS.propose(LedgerView((ROOT,)), 0)[0], 0).job] * 3)
    )
    assert WALKS.propose(LedgerView((ROOT, *at_work)), 0) == ()
