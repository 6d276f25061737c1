"""How moves are drawn: uniformly, by what kinds and sizes earned, by what a predictor expects."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from engine_support import record_of
from search_support import ROOT, SEED, SPACE, play, uniform
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

import morphs
from morphs import Limits, cost, parse_chain
from nas.ledger import Job, LedgerView
from nas.search import TPE, HillClimb, Predictor, Proposal, SpaceMoves, graph_of
from nas.search.earned import earned
from nas.search.graph_tokens import graph_tokens
from nas.search.predictor import normal_scores, predict, tanimoto

TPE_SAMPLER = TPE(SpaceMoves(SPACE, Limits(params=3000)), startup=4)
PREDICTOR = Predictor(uniform(), graph_tokens, pool=12)


def kinds_drawn(played: LedgerView) -> Counter[str]:
    return Counter(move.name for record in played.trials for move in parse_chain(record.job.moves))


def prefers_kernels(proposal: Proposal) -> float:
    """A score that only larger kernels improve."""
    return 0.5 + 0.1 * proposal.moves.count("grow_kernel") - 0.1 * proposal.moves.count("widen")


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
    assert earned(LedgerView(trials), "accuracy") == pytest.approx({"1.1": 0.05, "2.1": -0.05})


def test_tpe_draws_more_of_what_earned_more() -> None:
    policy = HillClimb(TPE_SAMPLER, 6, 1)
    played = play(policy, 50, score=prefers_kernels)
    drawn = kinds_drawn(LedgerView(played.trials[20:]))
    print(kinds_drawn(LedgerView(played.trials[:20])), drawn)
    assert drawn["grow_kernel"] > 1.3 * drawn["widen"]
    for record in played.trials[1:]:
        if record.job.kind == "child":
            assert len(record.job.extra["choices"]) == len(parse_chain(record.job.moves))


def test_the_predictor_takes_what_scored_well() -> None:
    policy = HillClimb(PREDICTOR, 6, 1)
    flat = HillClimb(uniform(), 6, 1)

    def wide(proposal: Proposal) -> float:
        """Channels of the first convolution: nothing else matters."""
        (node,) = (n for n in morphs.graph_from_json(proposal.graph) if n.name == "c1")
        return node.op.channels / 1000  # type: ignore[attr-defined]

    ends = [policy_.incumbent(play(policy_, 21, score=wide)) for policy_ in (policy, flat)]
    widths = [next(n.op.channels for n in graph_of(end) if n.name == "c1") for end in ends]  # type: ignore[attr-defined]
    assert widths[0] >= widths[1]
    view = play(flat, 14, score=wide)
    best = flat.incumbent(view)
    taken = frozenset(record.job.graph for record in view.trials)
    drawn = [PREDICTOR.draw(view, best, 3, seed, taken) for seed in range(8)]
    assert all(found is not None and found.graph not in taken for found in drawn)


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
