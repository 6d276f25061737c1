"""The policy alone: views in, proposals out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from random import Random
from typing import Any

import pytest
from engine_support import record_of
from hypothesis import given, settings
from hypothesis import strategies as st
from search_support import SEED, SPACE

import morphs
from morphs import ArchGraph, GrowKernel, Limits, Move, cost
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.types import State, Training
from nas.ledger.view import rank
from nas.policies.hill_climb import HillClimb
from nas.policies.policy import Proposal
from nas.policies.sampling import SpaceMoves, Uniform, graph_of
from search_spaces import Space


@dataclass(frozen=True)
class Competitor:
    """A proposal, its texts read."""

    slot: int
    parent: str
    moves: tuple[Move, ...]
    graph: ArchGraph


def climb(limits: Limits | None = None, children: int = 4, moves: int = 2) -> HillClimb:
    return HillClimb(Uniform(SpaceMoves(SPACE, limits or Limits())), children, moves)


def competitors(policy: HillClimb, generation: int, seed: int, *trials: TrialRecord) -> list[Competitor]:
    """The generation that follows `trials`."""
    before = view(*(trials or ROOT.trials))
    return [
        Competitor(p.slot, p.parent, morphs.parse_chain(p.moves), morphs.graph_from_json(p.graph))
        for p in policy.competitors(before, generation, seed)
    ]


def trial(
    key: str, accuracy: float | None, loss: float = 1.0, kind: str = "child", graph: ArchGraph = SEED
) -> TrialRecord:
    generation, slot = map(int, key.split("."))
    return record_of(Job(kind, generation, slot, None, "", 0, 1, graph.to_json()), accuracy, loss)


def view(*trials: TrialRecord) -> LedgerView:
    return LedgerView(trials)


ROOT = view(trial("0.0", 0.5, kind="seed"))


def test_the_unchanged_parent_competes_in_slot_0() -> None:
    first, *others = competitors(climb(), 1, 0)
    assert (first.slot, first.parent, first.moves, first.graph) == (0, "0.0", (), SEED)
    assert [proposal.slot for proposal in others] == [1, 2, 3, 4]
    assert all(len(proposal.moves) == 2 for proposal in others)


@pytest.mark.parametrize("seed", range(5))
def test_without_the_parent_the_children_are_of_different_kinds(seed: int) -> None:
    policy = replace(climb(moves=1), parent=False)
    children = competitors(policy, 1, seed)
    assert [child.slot for child in children] == [1, 2, 3, 4]
    assert {child.moves[0].name for child in children} == {
        "widen",
        "deepen",
        "grow_kernel",
    }  # no shortcut fits yet
    ended = [trial(f"1.{child.slot}", 0.1 * child.slot) for child in children]
    assert policy.incumbent(view(*ROOT.trials, *ended)).key == "1.4"


def test_without_the_parent_a_search_ends_where_nothing_can_grow() -> None:
    tight = Limits(params=cost(SEED).params, macs=cost(SEED).macs, nodes=len(SEED), depth=2)
    assert competitors(replace(climb(tight), parent=False), 1, 0) == []


@settings(max_examples=8)
@given(st.integers(0, 2**31 - 1), st.integers(1, 5), st.integers(1, 3))
def test_proposals_are_a_pure_function_of_view_and_seed(seed: int, generation: int, moves: int) -> None:
    before = SEED.to_json()
    proposals = competitors(climb(moves=moves), generation, seed)
    assert proposals == competitors(climb(moves=moves), generation, seed)
    assert SEED.to_json() == before
    for proposal in proposals[1:]:
        assert 1 <= len(proposal.moves) <= moves
        assert reduce(lambda graph, move: move.reshape(graph), proposal.moves, SEED) == proposal.graph
    graphs = [proposal.graph for proposal in proposals]
    assert len(set(graphs)) == len(graphs)


def test_seeds_and_generations_draw_differently() -> None:
    drawn = {
        tuple(
            map(str, (move for proposal in competitors(climb(), generation, seed) for move in proposal.moves))
        )
        for generation in (1, 2)
        for seed in (0, 1)
    }
    assert len(drawn) == 4


def test_what_one_slot_draws_does_not_depend_on_how_many_there_are() -> None:
    few, many = (competitors(climb(children=n), 1, 7) for n in (2, 4))
    assert list(many[:3]) == list(few)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 1000),
    params=st.none() | st.integers(180, 800),
    macs=st.none() | st.integers(2500, 60_000),
    depth=st.none() | st.integers(2, 4),
    width=st.none() | st.integers(4, 16),
)
def test_limits_are_kept(seed: int, **bounds: int | None) -> None:
    fits = {name: value for name, value in bounds.items() if value is not None}
    limits = Limits(**fits)
    for proposal in competitors(climb(limits, moves=3), 1, seed):
        if proposal.moves:
            assert limits.violation(proposal.graph) is None
            spent = cost(proposal.graph)
            assert spent.params <= fits.get("params", spent.params)
            assert spent.macs <= fits.get("macs", spent.macs)


def test_nothing_is_proposed_where_no_move_is_legal() -> None:
    tight = Limits(params=cost(SEED).params, macs=cost(SEED).macs, nodes=len(SEED), depth=2)
    assert competitors(climb(tight), 1, 0) == []


def test_fewer_children_where_fewer_are_distinct() -> None:
    only = Space(SEED, ((GrowKernel, {"max_kernel": (5,)}),))
    proposals = competitors(HillClimb(Uniform(SpaceMoves(only, Limits())), 5, 1), 1, 0)
    assert 2 <= len(proposals) < 6
    assert len({proposal.graph for proposal in proposals}) == len(proposals)


def test_the_incumbent_is_the_best_of_the_last_generation_that_has_one() -> None:
    early, late = trial("0.0", 0.9, kind="seed"), trial("1.1", 0.6)
    policy = climb()
    assert policy.incumbent(view(early)) == early
    assert policy.incumbent(view(early, trial("1.0", 0.5), late)) == late
    assert policy.incumbent(view(early, trial("1.0", None), trial("1.1", None))) == early
    assert policy.incumbent(view(early, late, trial("2.0", 0.1, kind="final"))) == late
    assert competitors(policy, 2, 0, early, late)[0].parent == "1.1"


def test_ties_go_to_loss_then_size_then_slot() -> None:
    wide = morphs.parse("widen(node=c1, to=8, how=replicate)").reshape(SEED)
    ranked = [
        trial("1.4", 0.7, 0.9, graph=wide),
        trial("1.3", 0.8, 1.1),
        trial("1.2", 0.8, 1.0, graph=wide),
        trial("1.1", 0.8, 1.0),
        trial("1.0", 0.8, 1.0),
    ]
    assert sorted(ranked, key=rank) == ranked
    assert climb().incumbent(view(*Random(0).sample(ranked, 5))).key == "1.0"


def test_a_chain_grows_from_the_incumbents_graph() -> None:
    wide = morphs.parse("widen(node=c1, to=8, how=replicate)").reshape(SEED)
    best = trial("1.1", 0.6, graph=wide)
    proposals: Any = competitors(climb(), 2, 0, trial("0.0", 0.5, kind="seed"), best)
    assert graph_of(best) == wide
    assert all(
        reduce(lambda graph, move: move.reshape(graph), proposal.moves, wide) == proposal.graph
        for proposal in proposals
    )


def test_kinds_with_many_sites_are_no_likelier() -> None:
    drawn = [
        proposal.moves[0].name for seed in range(60) for proposal in competitors(climb(moves=1), 1, seed)[1:]
    ]
    assert len(set(drawn)) >= 3
    assert max(drawn.count(name) for name in set(drawn)) < 0.6 * len(drawn)


@pytest.mark.parametrize("children", [1, 3])
def test_as_many_children_as_asked(children: int) -> None:
    assert len(competitors(climb(children=children), 1, 0)) == children + 1


def test_a_generation_is_proposed_at_once_then_nothing_until_it_has_ended() -> None:
    policy, root = climb(), trial("0.0", 0.5, kind="seed")
    keys = [proposal.key for proposal in policy.propose(view(root), 0)]
    assert keys == ["1.0", "1.1", "1.2", "1.3", "1.4"]
    ended = [trial(key, 0.1 * i) for i, key in enumerate(keys)]
    at_work = replace(ended[0], state=State.RUNNING, result=None)
    assert policy.propose(view(root, at_work, *ended[1:]), 0) == ()
    assert [p.key for p in policy.propose(view(root, *ended), 0)] == ["2.0", "2.1", "2.2", "2.3", "2.4"]


def test_what_a_crash_cut_short_is_made_whole_first() -> None:
    policy, root = climb(), trial("0.0", 0.5, kind="seed")
    whole = policy.propose(view(root), 0)
    told = trial("1.0", 0.9)
    for begun in (told, replace(told, state=State.RUNNING, result=None)):
        assert policy.propose(view(root, begun), 0) == whole[1:]


def told(proposals: Sequence[Proposal], scores: dict[str, float]) -> list[TrialRecord]:
    """The proposals as trials that came to `scores`; None of them failed."""
    return [
        record_of(
            Job(
                "child", p.generation, p.slot, p.parent, p.moves, 0, 1, p.graph,
                Training(rung=p.slot // 5),
            ),
            scores.get(p.key, 0.1),
        )
        for p in proposals
    ]  # fmt: skip


def test_siblings_are_halved_among_themselves() -> None:
    policy = HillClimb(Uniform(SpaceMoves(SPACE, Limits())), 4, 1, rungs=3)
    root = trial("0.0", 0.99, kind="seed")
    first = policy.propose(view(root), 0)
    assert [p.key for p in first] == ["1.0", "1.1", "1.2", "1.3", "1.4"]
    assert {p.share for p in first} == {(0.0, 0.25)}
    begun = told(first, {"1.1": 0.5, "1.3": 0.6, "1.4": 0.4})
    second = policy.propose(view(root, *begun), 0)
    assert [(p.key, p.parent, p.moves, p.share) for p in second] == [
        ("1.6", "1.1", "", (0.25, 0.5)),
        ("1.8", "1.3", "", (0.25, 0.5)),
        ("1.9", "1.4", "", (0.25, 0.5)),
    ]
    assert [p.graph for p in second] == [first[i].graph for i in (1, 3, 4)]
    begun += told(second, {"1.6": 0.7, "1.8": 0.2, "1.9": 0.3})
    third = policy.propose(view(root, *begun), 0)
    assert [(p.key, p.share) for p in third] == [("1.11", (0.5, 1.0)), ("1.14", (0.5, 1.0))]
    begun += told(third, {"1.11": 0.15, "1.14": 0.12})
    assert (
        policy.incumbent(view(root, *begun)).key == "1.11"
    )  # lower rungs trained less, whatever they scored
    assert view(root, *begun).best == policy.incumbent(view(root, *begun))
    fourth = policy.propose(view(root, *begun), 0)
    assert (fourth[0].key, fourth[0].parent) == ("2.0", "1.11")


def test_a_rung_that_a_crash_cut_short_is_made_whole() -> None:
    policy = HillClimb(Uniform(SpaceMoves(SPACE, Limits())), 4, 1, rungs=2)
    root = trial("0.0", 0.5, kind="seed")
    begun = told(policy.propose(view(root), 0), {"1.1": 0.5, "1.3": 0.6, "1.4": 0.4})
    second = policy.propose(view(root, *begun), 0)
    (one, *_) = told(second[:1], {})
    at_work = replace(one, state=State.RUNNING, result=None)
    for first in (at_work, one):  # also where that has ended before another worker was free
        assert policy.propose(view(root, *begun, first), 0) == second[1:]
    assert policy.propose(view(root, *begun, replace(begun[0], state=State.RUNNING, result=None)), 0) == ()


def test_a_generation_that_failed_in_part_or_whole_goes_on() -> None:
    policy = HillClimb(Uniform(SpaceMoves(SPACE, Limits())), 2, 1, rungs=2)
    root = trial("0.0", 0.5, kind="seed")
    first = policy.propose(view(root), 0)
    failed = [trial(p.key, None) for p in first]
    assert [p.key for p in policy.propose(view(root, *failed), 0)] == ["2.0", "2.1", "2.2"]
    one_left = [*failed[:2], trial("1.2", 0.3)]
    assert [p.key for p in policy.propose(view(root, *one_left), 0)] == ["1.5"]
