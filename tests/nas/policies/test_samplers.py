"""How moves are drawn: uniformly, by what kinds and sizes gains, by what a predictor expects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from engine_support import record_of
from search_support import ROOT, SEED, SPACE, play, uniform
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

import morphs
from morphs import Limits, cost, parse_chain
from nas.ledger import Job, LedgerView, TrialRecord
from nas.policies.gain import gains
from nas.policies.graph_tokens import graph_tokens
from nas.policies.hill_climb import HillClimb
from nas.policies.predictor import MOST, Predictor, normal_scores, predict, tanimoto
from nas.policies.sampling import Draw, SpaceMoves
from nas.policies.tpe import TPE

TPE_SAMPLER = TPE(SpaceMoves(SPACE, Limits(params=3000)), startup=4)
PREDICTOR = Predictor(uniform(), graph_tokens, pool=12)


def test_children_are_legal_whatever_draws_them() -> None:
    view = LedgerView((ROOT,))
    for sampler in (uniform(), TPE_SAMPLER, PREDICTOR):
        for seed in range(5):
            found = sampler.draw(view, ROOT, 2, seed)
            assert found is not None
            graph = SEED
            for move in parse_chain(found.moves):
                graph = move.reshape(graph)
            assert graph.to_json() == found.graph
            assert cost(graph).params <= 3000
            assert sampler.draw(view, ROOT, 2, seed) == found


def test_what_a_child_earned_is_over_its_unchanged_rival_or_else_its_parent() -> None:
    graph = SEED.to_json()
    moved = "widen(node=c1, to=8, how=replicate)"
    trials = (
        ROOT,
        record_of(Job("parent", 1, 0, "0.0", "", 0, 1, graph), 0.6),
        record_of(Job("child", 1, 1, "0.0", moved, 0, 1, graph), 0.65),
        record_of(Job("child", 1, 2, "0.0", moved, 0, 1, graph), None),
        record_of(Job("child", 2, 1, "1.1", moved, 0, 1, graph), 0.6),
    )
    assert gains(LedgerView(trials), "accuracy") == pytest.approx({"1.1": 0.05, "2.1": -0.05})


def told(drawn: Draw, slot: int, gains: float) -> TrialRecord:
    """A child of the seed network that came to so much more than it."""
    job = Job("child", 1, slot, "0.0", drawn.moves, 0, 1, drawn.graph, memo=drawn.memo)
    return record_of(job, 0.5 + gains)


@pytest.mark.parametrize(("kind", "choice"), [("deepen", {}), ("widen", {"factor": "2"})])
def test_tpe_draws_more_of_the_kinds_and_sizes_that_earned_more(kind: str, choice: dict[str, str]) -> None:
    def wanted(drawn: Draw) -> bool:
        (chosen,) = drawn.memo["choices"]
        return chosen.get("kind") == kind and choice.items() <= chosen.items()

    children = [TPE_SAMPLER.draw(LedgerView((ROOT,)), ROOT, 1, seed) for seed in range(24)]
    trials = [told(c, slot, 0.1 if wanted(c) else -0.1) for slot, c in enumerate(children) if c is not None]
    view, flat = LedgerView((ROOT, *trials)), LedgerView((ROOT,))
    later = [[TPE_SAMPLER.draw(v, ROOT, 1, seed) for seed in range(100, 130)] for v in (flat, view)]
    before, after = (sum(wanted(drawn) for drawn in some if drawn is not None) for some in later)
    assert after > 1.7 * before


def test_each_move_remembers_what_was_chosen() -> None:
    found = TPE_SAMPLER.draw(LedgerView((ROOT,)), ROOT, 3, 0)
    assert found is not None
    assert len(found.memo["choices"]) == len(parse_chain(found.moves)) == 3
    for move, chosen in zip(parse_chain(found.moves), found.memo["choices"], strict=True):
        assert not chosen or chosen["kind"] == move.name


def test_a_climb_by_tpe_decides_the_same_with_any_number_of_workers_and_cut_short_anywhere() -> None:
    policy = HillClimb(TPE(SpaceMoves(SPACE, Limits(params=100_000)), startup=4), 4, 2)
    one = play(policy, 14)
    assert any("choices" in record.job.memo for record in one.trials)
    decided = [(r.key, r.job.parent, r.job.moves) for r in one.trials]
    for workers in (2, 4):
        assert [(r.key, r.job.parent, r.job.moves) for r in play(policy, 14, workers).trials] == decided
    for cut in (8, 10):  # as a resumed run sees its ledger, within a generation
        left = {p.key: p.moves for p in policy.propose(LedgerView(one.trials[:cut]), 0)}
        assert left == {r.key: r.job.moves for r in one.trials[cut:11]}


def test_the_predictor_takes_what_scored_well() -> None:
    def wide(drawn: Draw | None) -> bool:
        """Whether the first convolution has been widened: nothing else matters."""
        assert drawn is not None
        return morphs.graph_from_json(drawn.graph).shape("c1") != SEED.shape("c1")

    flat, view = uniform(Limits(params=100_000)), LedgerView((ROOT,))
    children = [flat.draw(view, ROOT, 2, seed) for seed in range(12)]
    trials = [told(c, slot, wide(c) / 10) for slot, c in enumerate(children) if c is not None]
    view = LedgerView((ROOT, *trials))
    taken = frozenset(record.job.graph for record in view.trials)
    samplers = (Predictor(flat, graph_tokens, pool=8), flat)
    guided, blind = ([s.draw(view, ROOT, 2, seed, taken) for seed in range(50, 55)] for s in samplers)
    assert not {drawn.graph for drawn in guided if drawn is not None} & taken
    assert sum(map(wide, blind)) < sum(map(wide, guided)) == 5


class Alike(Kernel):
    """Tanimoto's kernel for scikit-learn: its inputs are places in a list of bags."""

    def __init__(self, bags: list[list[str]]) -> None:
        self.bags = bags

    def __call__(self, x: Any, y: Any = None, eval_gradient: bool = False) -> Any:
        rows, columns = x[:, 0].astype(int), (x if y is None else y)[:, 0].astype(int)
        return tanimoto(self.bags)[np.ix_(rows, columns)]

    def diag(self, x: Any) -> Any:
        return np.ones(len(x))

    def is_stationary(self) -> bool:
        return False


def test_the_gaussian_process_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    bags = [[f"{place}: {draw.integers(3)}" for place in range(5)] for _ in range(12)]
    scores, places = draw.normal(size=8), np.arange(12.0)[:, None]
    reference = GaussianProcessRegressor(Alike(bags), alpha=0.1, optimizer=None).fit(places[:8], scores)
    assert np.allclose(predict(bags[:8], scores, bags[8:], 0.1), reference.predict(places[8:]))


def test_tanimoto_is_the_shared_over_all_and_a_kernel() -> None:
    bags = [("a", "b"), ("b", "c", "c"), ("d",), ("a", "b", "c", "d")]
    alike = tanimoto(bags)
    assert alike[0].tolist() == [1.0, 1 / 3, 0.0, 0.5]
    assert np.linalg.eigvalsh(alike).min() > 0


def test_normal_scores_keep_the_order_and_nothing_else() -> None:
    scores = normal_scores([0.1, 90.0, 0.2])
    assert scores.tolist() == normal_scores([1, 3, 2]).tolist()
    assert scores[0] == -scores[1]
    assert scores[2] == pytest.approx(0, abs=1e-12)


def test_tokens_tell_places_and_what_follows_what() -> None:
    found = graph_tokens(SEED.to_json())
    wide = graph_tokens(morphs.parse("widen(node=c1, to=8)").reshape(SEED).to_json())
    assert 0 < len(set(found) & set(wide)) < len(set(found))
    assert len(found) == 2 * len(SEED)


def test_a_prediction_doesnt_depend_on_the_number_of_threads() -> None:
    """Which, in a driver, is the environment's to say: the same seed would draw other children."""
    draw = np.random.default_rng(0)
    bags = [[f"{place}: {draw.integers(3)}" for place in range(30)] for _ in range(220)]
    scores, found, before = draw.normal(size=180), list[Any](), torch.get_num_threads()
    for number in (1, 4):
        torch.set_num_threads(number)
        found.append(predict(bags[:180], scores, bags[180:], 0.1))
        assert torch.get_num_threads() == number
    torch.set_num_threads(before)
    assert (found[0] == found[1]).all()


def test_a_long_search_is_predicted_from_its_youngest_trials() -> None:
    asked: list[str] = []

    def tokens(graph: str) -> tuple[str, ...]:
        asked.append(graph)
        return graph_tokens(graph)

    old = [replace(ROOT, job=replace(ROOT.job, generation=n, slot=0)) for n in range(1, 40)]
    young = [replace(ROOT, job=replace(ROOT.job, generation=n, slot=0)) for n in range(40, 40 + MOST)]
    sampler = Predictor(uniform(), tokens, pool=6)
    drawn = sampler.draw(LedgerView((*old, *young)), ROOT, 2, 0)
    assert drawn is not None
    assert len(asked) <= MOST + 6
    assert drawn == sampler.draw(LedgerView(tuple(young)), ROOT, 2, 0)


def test_what_was_listed_once_is_drawn_as_if_it_were_listed_anew() -> None:
    kept = uniform()
    for seed in range(12):
        assert kept.draw(LedgerView(()), ROOT, 3, seed) == uniform().draw(LedgerView(()), ROOT, 3, seed)
