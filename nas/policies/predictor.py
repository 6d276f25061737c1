"""Chooses moves by the architecture they lead to: a Gaussian process over architectures, fitted to the ledger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from nas.base.machine import threads
from nas.base.seeds import derive
from nas.config.settings import Settings
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion
from nas.policies.gain import value
from nas.policies.sampling import Draw, MoveSampler

Floats = NDArray[np.float64]
Tokens = Callable[[str], Sequence[str]]  # from an architecture (`Job.graph`) to its tokens


MOST = 1000  # trials learned from, the youngest: time grows with the cube of their number, memory with the square


class PredictorSettings(Settings):
    """The settings of predictor."""

    pool: int = Field(
        30, ge=1, le=10_000, description="Children drawn, of which the most promising is proposed."
    )
    startup: int = Field(5, ge=2, le=10_000, description="Complete trials needed to predict.")
    noise: float = Field(0.1, gt=0, description="Variance of the scores' noise in the process.")


@dataclass(frozen=True)
class Predictor:
    """Draws `pool` children from `base` and takes the one with the highest prediction of a Gaussian process.

    An architecture is the set of its tokens; the similarity of two is the share of tokens they have in common
    (the Tanimoto kernel, which has no parameters). Scores enter as normal scores of their ranks, so that neither
    their scale nor a few collapsed networks matter; `noise` is the variance of their noise. Children have chains of 1
    to the given number of moves. Below `startup` complete trials the first child drawn is taken. Only the MOST youngest
    trials are learned from: in a long search they are what parents are drawn from, and the others trained less.
    """

    base: MoveSampler
    tokens: Tokens
    select: Criterion = "accuracy"
    pool: int = 30
    startup: int = 5
    noise: float = 0.1

    def draw(
        self,
        view: LedgerView,
        parent: TrialRecord,
        length: int,
        seed: int,
        taken: Collection[str] = frozenset(),
    ) -> Draw | None:
        """See MoveSampler."""
        known = view.searched[-MOST:]
        size = self.pool if len(known) >= self.startup else 1
        pool = self._pool(view, parent, length, seed, size)
        fresh = [drawn for drawn in pool if drawn.graph not in taken]
        if len(fresh) < 2:
            return (fresh or pool or [None])[0]
        expected = predict(
            [self.tokens(record.job.graph) for record in known],
            normal_scores([value(record, self.select) for record in known]),
            [self.tokens(child.graph) for child in fresh],
            self.noise,
        )
        return fresh[int(np.argmax(expected))]

    def _pool(
        self, view: LedgerView, parent: TrialRecord, length: int, seed: int, size: int
    ) -> Sequence[Draw]:
        """Up to `size` different children."""
        lengths = Random(derive(seed, "lengths"))
        found: dict[str, Draw] = {}
        for attempt in range(size):
            drawn = self.base.draw(view, parent, lengths.randint(1, length), derive(seed, "pool", attempt))
            if drawn is not None:
                found.setdefault(drawn.graph, drawn)
        return list(found.values())


def predict(
    known: Sequence[Sequence[str]], scores: Floats, asked: Sequence[Sequence[str]], noise: float
) -> Floats:
    """Predicted scores [M] of `asked`, given the scores [N] of `known`: the posterior mean of a Gaussian process with
    the Tanimoto kernel (Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 2.23).
    """
    alike = tanimoto([*known, *asked])
    count = len(known)
    # torch can be limited to one thread. From a hundred trials on, the last bits of NumPy's answer depend on
    # OMP_NUM_THREADS, and with them the choice between two similar children.
    with threads(1):
        among = torch.from_numpy(alike[:count, :count] + noise * np.eye(count))
        weights = torch.linalg.solve(among, torch.from_numpy(scores))
        return (torch.from_numpy(alike[count:, :count]) @ weights).numpy()


def tanimoto(bags: Sequence[Sequence[str]]) -> Floats:
    """For each pair of bags, the number of shared tokens over the number of tokens in either, [N, N]."""
    names: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for row, bag in enumerate(bags):
        for token in set(bag):
            rows.append(row)
            columns.append(names.setdefault(token, len(names)))
    has = np.zeros((len(bags), len(names)))
    has[rows, columns] = 1.0
    shared = has @ has.T
    sizes = has.sum(axis=1)
    return shared / (sizes[:, None] + sizes[None, :] - shared)


def normal_scores(values: Sequence[float]) -> Floats:
    """Each value's rank as the quantile of the standard normal distribution (Blom's scores: rank − 3/8 of N + 1/4)."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    standard = NormalDist()
    return np.array([standard.inv_cdf((rank + 0.625) / (len(values) + 0.25)) for rank in ranks])
