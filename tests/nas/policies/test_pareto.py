"""The front of accuracy against a cost."""

from collections import Counter

import numpy as np
import pytest
from engine_support import record_of
from scipy.optimize import nnls
from scipy.stats import norm
from search_support import ROOT, SEED, SPACE, luck, play

from morphs import Limits, Narrow, cost, graph_from_json, parse
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.view import score
from nas.policies.builtin import OBJECTIVES, price
from nas.policies.latency_table import LatencyTable, line_through, measure, table_from
from nas.policies.pareto import Pareto, density
from nas.policies.sampling import SpaceMoves, Uniform
from search_spaces import SPACES, Space

SHRINKABLE = Space(SPACE.seed, (*SPACE.moves, (Narrow, {})))
MOVES = SpaceMoves(SHRINKABLE, Limits(params=20_000))
PARAMS = price("params", OBJECTIVES["params"])
POLICY = Pareto(Uniform(MOVES), MOVES, PARAMS, wave=4, moves_per_child=1, candidates=4)


def trial(slot: int, channels: int, accuracy: float | None) -> TrialRecord:
    graph = SEED if channels == 4 else parse(f"widen(node=c1, to={channels})").reshape(SEED)
    return record_of(Job("child", 1, slot, "0.0", "widen(…)", 0, 1, graph.to_json()), accuracy)


def test_the_front_is_what_nothing_else_beats() -> None:
    trials = (trial(1, 8, 0.6), trial(2, 12, 0.55), trial(3, 16, 0.6), trial(4, 20, 0.9), trial(5, 24, None))
    front = POLICY.front(LedgerView((ROOT, *trials)))
    assert [record.key for record in front] == ["0.0", "1.1", "1.4"]
    assert POLICY.incumbent(LedgerView((ROOT, *trials))).key == "1.4"


def test_the_front_of_a_search_by_brute_force() -> None:
    played = play(POLICY, 25, 2)
    points = {r.key: (score(r), -PARAMS(r.job.graph)) for r in played.trials}
    unbeaten = {
        point
        for point in points.values()
        if not any(other != point and min(np.subtract(other, point)) >= 0 for other in points.values())
    }
    front = [points[record.key] for record in POLICY.front(played)]
    assert len(front) == len(unbeaten)
    assert set(front) == unbeaten


def test_density_is_a_gaussian_kernel_estimate_on_logarithms() -> None:
    among = [10.0, 12.0, 1000.0]
    logs = np.log(among)
    width = logs.std() * 3**-0.2
    expected = norm.pdf((np.log(50) - logs) / width).sum() * np.sqrt(2 * np.pi) / (3 * width)
    assert density(50, among) == pytest.approx(expected)
    assert density(1000, among) < density(11, among)
    assert density(5, [5.0]) > 0


def test_parents_are_drawn_where_the_front_is_sparse() -> None:
    crowd = [trial(i, 4 + i, 0.5 + i / 100) for i in range(1, 6)]
    alone = trial(9, 40, 0.9)
    view = LedgerView((ROOT, *crowd, alone))
    parents = Counter(POLICY.propose(view, seed)[0].parent for seed in range(40))
    assert parents["1.9"] > 2 * max(n for key, n in parents.items() if key != "1.9")


def test_networks_shrink_and_the_first_of_each_wave_trains_on() -> None:
    played = play(POLICY, 24, score=lambda p: luck(p) / 10 + 0.5)
    params = [cost(graph_from_json(record.job.graph)).params for record in played.trials]
    assert min(params) < params[0] < max(params)
    born = [r for r in sorted(played.trials, key=lambda r: r.number) if r.job.kind != "seed"]
    assert [r.job.kind for r in born[:8]] == ["parent", "child", "child", "child"] * 2


def test_the_line_through_latencies_is_scipys_bounded_least_squares() -> None:
    """And never says that more work takes less time, however the measurements scatter."""
    draw = np.random.default_rng(0)
    below = 0
    for _ in range(50):
        moved = draw.uniform(1e2, 1e6, 12)
        sizes = np.stack([np.ones(12), draw.uniform(1, 50, 12) * moved, moved], axis=1)
        seconds = (sizes @ [5e-6, 1e-11, 2e-10]) * draw.lognormal(0, 0.5, 12)
        rows = sizes / seconds[:, None]
        scale = rows.max(axis=0)
        expected = nnls(rows / scale, np.ones(12))[0] / scale
        found = line_through(sizes, seconds)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-18)
        below += (np.linalg.lstsq(rows / scale, np.ones(12), rcond=None)[0] < 0).any()
    assert below > 5
    alike = np.array([[1.0, 0.0, 8.0], [1.0, 0.0, 8.0]])  # an op of one size alone, without multiply-adds
    line = line_through(alike, np.array([1e-6, 3e-6]))
    assert alike @ line == pytest.approx([1.2e-6] * 2)  # of relative errors, 0.2 and 0.6
    assert np.array([1.0, 0.0, 16.0]) @ line == pytest.approx(2.4e-6)


def test_the_latency_of_networks_of_tokens_is_measured() -> None:
    space = SPACES["transformer"]((6,), 2, tokens=9)
    table = measure(space.seed.to_json(), SpaceMoves(space, Limits()), walks=1, length=1, repeats=1)
    assert {"embedding", "attention", "layer_norm", "linear"} <= {
        entry.kind for entry in table.entries.values()
    }
    assert table.seconds(space.seed.to_json()) > 0


def test_latency_adds_up_the_ops_of_a_table_measured_once() -> None:
    table = measure(SEED.to_json(), MOVES, walks=2, length=3, repeats=3)
    again = table_from(table.latencies)
    graph = SEED.to_json()
    assert again == table
    ops = [e.seconds for key, e in table.entries.items()]
    assert 0 < table.seconds(graph) <= sum(ops)
    known = {key: e for key, e in table.entries.items() if e.kind != "linear"}
    partly = LatencyTable(known)
    assert partly.seconds(graph) > 0
    wide = parse("widen(node=c1, to=64)").reshape(SEED).to_json()
    assert table.seconds(wide) > 0
    macs = price("macs", OBJECTIVES["macs"])
    assert macs(wide) > macs(graph)
