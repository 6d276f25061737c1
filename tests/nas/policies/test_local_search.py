"""Local search from several starts."""

from dataclasses import replace

from engine_support import record_of
from search_support import ROOT, play, started, uniform

from morphs import Limits, cost, parse_chain
from nas.ledger import LedgerView
from nas.ledger.view import score
from nas.policies.local_search import LocalSearch
from nas.policies.sampling import graph_of


def search(**changes: int) -> LocalSearch:
    moves = uniform(Limits(params=100_000))
    settings = {"kick": 2, "scatter": 3, "parents": 2, "patience": 4}
    return LocalSearch(moves, moves, wave=5, moves_per_child=1, **{**settings, **changes})


def test_a_climb_begins_scattered_about_the_seed_and_goes_on_from_its_best() -> None:
    played = play(search(patience=99), 12)
    born = sorted(played.trials[1:], key=lambda record: record.number)
    assert [record.job.parent for record in born[:3]] == ["0.0"] * 3
    for place, record in enumerate(born[3:], 3):
        best = sorted(born[:place], key=score)[-2:]
        assert record.job.parent in {other.key for other in best}
        assert len(parse_chain(record.job.moves)) == 1


def test_a_climb_that_gets_no_better_ends_and_another_begins() -> None:
    flat = play(search(), 21, score=lambda proposal: 0.5)
    born = sorted(flat.trials[1:], key=lambda record: record.number)
    climbs = [record.job.memo["climb"] for record in born]
    assert climbs == sorted(climbs)
    assert [climbs.count(n) for n in range(3)] == [7, 7, 7]
    for n in range(3):
        assert [r.job.parent for r in born if r.job.memo["climb"] == n][:3] == ["0.0"] * 3
    steps = iter(range(100))
    assert {
        r.job.memo["climb"] for r in play(search(), 15, score=lambda _: next(steps) / 100).trials[1:]
    } == {0}


def test_all_are_new_keep_the_limits_and_the_best_of_all_climbs_is_the_incumbent() -> None:
    policy, played = search(), play(search(), 20)
    graphs = [record.job.graph for record in played.trials]
    assert len(set(graphs)) == len(graphs)
    assert all(cost(graph_of(record)).params <= 100_000 for record in played.trials)
    assert policy.incumbent(played) == max(played.trials, key=score)


def test_failures_and_running_trials_are_no_obstacle() -> None:
    policy = search(scatter=1)
    first = policy.propose(LedgerView((ROOT,)), 0)[0]
    at_work = started(first, 1)
    for state in (at_work, record_of(at_work.job, None), replace(at_work, number=7)):
        (following,) = policy.propose(LedgerView((ROOT, state)), 0)
        assert following.parent == "0.0"
        assert following.graph != first.graph
