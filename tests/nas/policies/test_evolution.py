"""Regularised evolution: views in, one proposal out."""

from random import Random

import pytest
from search_support import ROOT, play, uniform

from morphs import cost, parse_chain
from nas.ledger import LedgerView
from nas.ledger.view import score
from nas.policies.evolution import Evolution
from nas.policies.sampling import graph_of


def evolution(**changes: int | bool) -> Evolution:
    return Evolution(uniform(), wave=4, moves_per_child=1, **({"population": 6, "tournament": 3} | changes))


@pytest.mark.parametrize("workers", [1, 3])
def test_no_worker_is_ever_idle_and_births_are_numbered_in_order(workers: int) -> None:
    played = play(evolution(), 12, workers)
    born = sorted(played.trials[1:], key=lambda record: record.number)
    assert [record.key for record in born] == [f"{1 + i // 4}.{i % 4}" for i in range(12)]
    assert all(record.state == "complete" for record in played.trials)


def test_the_first_of_each_wave_is_a_winner_that_trains_on() -> None:
    played = play(evolution(), 12)
    kinds = [record.job.kind for record in played.trials[1:]]
    assert kinds == ["parent", "child", "child", "child"] * 3
    assert all(r.job.graph == played.trial(str(r.job.parent)).job.graph for r in played.trials[1::4])
    assert {r.job.kind for r in play(evolution(train_on=False), 8).trials[1:]} == {"child"}


def test_children_are_new_and_keep_the_limits() -> None:
    played = play(evolution(train_on=False), 15)
    graphs = [record.job.graph for record in played.trials]
    assert len(set(graphs)) == len(graphs)
    for record in played.trials[1:]:
        (move,) = parse_chain(record.job.moves)
        assert move.reshape(graph_of(played.trial(str(record.job.parent)))) == graph_of(record)
        assert cost(graph_of(record)).params <= 3000


def test_only_the_young_have_children() -> None:
    policy = evolution(train_on=False)
    played = play(policy, 15)
    born = list(played.trials)
    for place, record in enumerate(born[1:], 1):
        assert record.job.parent in {other.key for other in born[max(0, place - 6) : place]}


def test_the_best_of_a_tournament_wins_and_the_best_of_all_is_the_incumbent() -> None:
    policy, played = evolution(tournament=6), play(evolution(), 12)
    alive = played.trials[-6:]
    assert policy.winner(played, Random(0)) == max(alive, key=score)
    assert policy.incumbent(played) == max(played.trials, key=score)


def test_the_order_of_completions_decides_and_nothing_else() -> None:
    assert play(evolution(), 12, 3) == play(evolution(), 12, 3)
    assert play(evolution(), 12, 3) != play(evolution(), 12, 2)


def test_where_no_move_is_legal_nothing_is_proposed() -> None:
    from morphs import Limits

    tight = Limits(params=cost(graph_of(ROOT)).params, macs=cost(graph_of(ROOT)).macs, nodes=7, depth=2)
    policy = Evolution(uniform(tight), 4, 1, train_on=False)
    assert policy.propose(LedgerView((ROOT,)), 0) == ()
