"""How good are the search policies, apart from training? They are played on the NAS-Bench-201 table.

The policies are the ones that `nas search` runs, asked through the same interface; a move changes the operation on one
of the six edges of the cell. An evaluation returns one of the cell's training runs, drawn at random, and the same
one again for a cell that was asked before, which counts as no query. After 100 and 300 queries the policy names
its incumbent; its regret is the best mean accuracy of the table less the mean accuracy of that cell, in points.
Settings were chosen on CIFAR-10 alone. Results are kept seed by seed, so that a second call goes on.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _common import OUT, Figure, figure, finish

from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.types import State
from nas.policies.evolution import Evolution
from nas.policies.hill_climb import HillClimb
from nas.policies.local_search import LocalSearch
from nas.policies.policy import Policy
from nas.policies.predictor import Predictor
from nas.policies.random_walk import RandomWalk
from nas.policies.sampling import Uniform
from nas.policies.tpe import TPE

SETS = ("cifar10", "cifar100", "imagenet16-120")
AT = (100, 300)
EDGES, OPERATIONS = range(6), range(5)
KICK = 12  # moves that make a cell as good as random


@dataclass(frozen=True)
class Table:
    """accuracy: [15625, 3] percent, by the cell's number in base 5."""

    accuracy: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean accuracy of each cell's runs."""
        return np.nanmean(self.accuracy, axis=1)

    def query(self, cell: int, draw: np.random.Generator) -> float:
        """One of the cell's runs."""
        runs = self.accuracy[cell]
        return float(draw.choice(runs[~np.isnan(runs)]))


def load(folder: Path, name: str) -> Table:
    """The table of one data set."""
    with np.load(folder / f"{name}.npz") as table:
        numbers = table["operations"].astype(int) @ 5 ** np.arange(5, -1, -1)
        accuracy = np.full((5**6, 3), np.nan)
        accuracy[numbers] = table["accuracy"]
    return Table(accuracy)


def number_of(graph: str) -> int:
    """The row of a cell's text."""
    return int(graph, 5)


@dataclass(frozen=True)
class CellMoves:
    """The neighbourhood of cells: one move sets the operation of one edge. A cell's text is its six digits."""

    kinds: Sequence[tuple[str, Mapping[str, Sequence[Any]]]] = (
        ("set_edge", {"edge": tuple(EDGES), "to": tuple(OPERATIONS)}),
    )

    def near(
        self, graph: str, kind: int, draw: random.Random, choice: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[str, str]]:
        """The cells that differ in one edge, in random order."""
        wanted = choice or {}
        edges = [e for e in EDGES if wanted.get("edge", e) == e]
        places = [
            (e, o) for e in edges for o in OPERATIONS if wanted.get("to", o) == o and str(o) != graph[e]
        ]
        draw.shuffle(places)
        for edge, to in places:
            yield f"set_edge(edge={edge}, to={to})", f"{graph[:edge]}{to}{graph[edge + 1 :]}"


def tokens(graph: str) -> tuple[str, ...]:
    """What a predictor sees of a cell: the operation at each place."""
    return tuple(f"{edge}: {operation}" for edge, operation in enumerate(graph))


UNIFORM = Uniform(CellMoves())
PREDICTOR = Predictor(UNIFORM, tokens)
ARMS: Mapping[str, Callable[[], Policy]] = {
    "random walk": lambda: RandomWalk(UNIFORM, 1, 1),
    "hill-climb": lambda: HillClimb(UNIFORM, 8, 1),
    "evolution": lambda: Evolution(UNIFORM, 10, 1, population=20, tournament=10, train_on=False),
    "evolution, tpe": lambda: Evolution(
        TPE(CellMoves()), 10, 1, population=20, tournament=10, train_on=False
    ),
    "evolution, predictor": lambda: Evolution(PREDICTOR, 10, 2, population=20, tournament=10, train_on=False),
    "local-search": lambda: LocalSearch(UNIFORM, UNIFORM, 10, 1, KICK),
    "local-search, predictor": lambda: LocalSearch(PREDICTOR, UNIFORM, 10, 2, KICK),
}
REFERENCES = ("random search", "plain local search", "best cells first")
SLOW = ("evolution, tpe",)  # Optuna takes ten times as long as all the others


@dataclass
class Game:
    """One play: what was asked of the table, and the incumbents' regrets at the marks in `AT`."""

    table: Table
    draw: np.random.Generator
    told: dict[int, float] = field(default_factory=dict[int, float])

    def ask(self, cell: int) -> float:
        """The accuracy that a cell came to."""
        if cell not in self.told:
            self.told[cell] = self.table.query(cell, self.draw)
        return self.told[cell]

    def regret(self, cell: int) -> float:
        """Of a cell, in points."""
        return float(self.table.mean.max() - self.table.mean[cell])


def play(policy: Policy, table: Table, seed: int) -> list[float]:
    """The policy's regret after each of the numbers of distinct queries in AT."""
    draw = np.random.default_rng(seed)
    game, regrets = Game(table, draw), list[float]()
    start = np.base_repr(draw.integers(5**6), 5).zfill(6)
    trials = [told(Job("seed", 0, 0, None, "", 0, 1, start), game, 0)]
    idle = 0
    while len(regrets) < len(AT):
        before = len(game.told)
        for proposal in policy.propose(LedgerView(tuple(trials)), seed):
            job = Job(
                "child" if proposal.moves else "parent", proposal.generation, proposal.slot, proposal.parent,
                proposal.moves, 0, 1, proposal.graph, memo=proposal.memo,
            )  # fmt: skip
            trials.append(told(job, game, len(trials)))
            if len(game.told) == AT[len(regrets)]:
                best = policy.incumbent(LedgerView(tuple(trials)))
                regrets.append(game.regret(number_of(best.job.graph)))
                if len(regrets) == len(AT):
                    break
        idle = idle + 1 if len(game.told) == before else 0
        if idle > 40:  # it asks for nothing new any more
            best = policy.incumbent(LedgerView(tuple(trials)))
            regrets += [game.regret(number_of(best.job.graph))] * (len(AT) - len(regrets))
    return regrets


def told(job: Job, game: Game, number: int) -> TrialRecord:
    """The trial as a ledger would hold it."""
    accuracy = game.ask(number_of(job.graph)) / 100
    result = Result("0" * 64, "0" * 64, {"val_accuracy": accuracy}, 0, 0)
    return TrialRecord(job, State.COMPLETE, result, None, number, 0.0, 0.0)


def reference(name: str, table: Table, seed: int) -> list[float]:
    """Random search without replacement, local search from random cells (White et al., algorithm 1), and a search that
    needs no luck: it knows the cells' order by mean accuracy. Its regret is what choosing by one noisy run costs.
    """
    draw = np.random.default_rng(seed)
    game = Game(table, draw)
    for cell in _asked(name, game, draw):
        game.ask(cell)
        if len(game.told) == AT[-1]:
            break
    asked = list(game.told)
    return [game.regret(max(asked[:n], key=lambda cell: game.told[cell])) for n in AT]


def _asked(name: str, game: Game, draw: np.random.Generator) -> Iterator[int]:
    if name == "random search":
        yield from map(int, draw.permutation(5**6))
    if name == "best cells first":
        yield from map(int, np.argsort(-np.nan_to_num(game.table.mean)))
    moves = CellMoves()
    while True:
        at = np.base_repr(draw.integers(5**6), 5).zfill(6)
        yield number_of(at)
        while True:
            near = [child for _, child in moves.near(at, 0, random.Random(int(draw.integers(2**32))))]
            for child in near:
                yield number_of(child)
            best = max(near, key=lambda child: game.told[number_of(child)])
            if game.told[number_of(best)] <= game.told[number_of(at)]:
                break
            at = best


def measured(arm: str, name: str, table: Table, seeds: int) -> np.ndarray:
    """Regrets [seeds, len(AT)], those of earlier calls read back."""
    kept = OUT / "policy_regret.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {row["seed"]: row["regret"] for row in lines if (row["arm"], row["set"]) == (arm, name)}
    with kept.open("a") as out:
        for seed in range(seeds):
            if seed not in known:
                known[seed] = (
                    reference(arm, table, seed) if arm in REFERENCES else play(ARMS[arm](), table, seed)
                )
                print(
                    json.dumps({"arm": arm, "set": name, "seed": seed, "regret": known[seed]}),
                    file=out, flush=True,
                )  # fmt: skip
    return np.array([known[seed] for seed in range(seeds)])


def main() -> None:
    """Play, and print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=Path("../shared/data/nasbench201"), metavar="DIR")
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument(
        "--arms", nargs="*", default=[arm for arm in ARMS if arm not in SLOW], choices=list(ARMS)
    )
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--quick", action="store_true", help="CIFAR-10, 5 seeds, two policies")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.sets, given.arms = 5, ["cifar10"], ["evolution", "local-search, predictor"]
    figures: list[Figure] = []
    for name in given.sets:
        table = load(given.table, name)
        base = measured(REFERENCES[0], name, table, given.seeds).mean(axis=0)
        print(f"{name}, {given.seeds} seeds: regret in points (± standard error), share of random search's")
        for arm in (*REFERENCES, *given.arms):
            regrets = measured(arm, name, table, given.seeds)
            mean, error = regrets.mean(axis=0), regrets.std(axis=0, ddof=1) / len(regrets) ** 0.5
            for at, value, spread, whole in zip(AT, mean, error, base, strict=True):
                target = {100: "< 0.29", 300: "< 0.10"}[at]
                aimed = arm == "local-search, predictor" and name == "cifar10"
                print(f"  {arm:<26} after {at}: {value:6.3f} ± {spread:.3f}   {value / whole:5.2f}")
                figures.append(
                    figure(f"{name}, {arm}, {at}", value / whole, "of random", target if aimed else None)
                )
    finish(__file__, figures)


if __name__ == "__main__":
    main()
