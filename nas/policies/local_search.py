"""Local search from several starts, after White, Nolen and Savani (arXiv 2005.02960)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nas.base.seeds import derive
from nas.config.settings import Settings
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion, Kind
from nas.ledger.view import rank
from nas.policies.policy import Proposal, best_of_all, birth

if TYPE_CHECKING:
    from nas.policies.entry import PolicyContext
    from nas.policies.sampling import MoveSampler, Uniform

ATTEMPTS = 20  # draws for a child that is not in the ledger yet
CLIMB = "climb"  # the key in a job's memo for the number of its climb


class LocalSearchSettings(Settings):
    """The settings of local-search."""

    kick: int = Field(
        4, ge=1, le=100, description="Random moves from the seed network to the start of a climb."
    )
    scatter: int = Field(
        10, ge=1, le=10_000, description="Children of the seed network that a climb starts with."
    )
    parents: int = Field(10, ge=1, le=10_000, description="The best trials of the climb that become parents.")
    patience: int = Field(
        20, ge=1, le=10_000, description="A climb ends after this many children without an improvement."
    )


@dataclass(frozen=True)
class LocalSearch:
    """Performs climbs one after the other, each from random starting points; a local optimum ends only its climb.

    A climb starts with `scatter` children of the seed network by `kick` random moves each. Then every child
    grows from one of the climb's `parents` best trials, by moves that `sampler` draws from this climb's results: a
    predictor that knew other climbs would lead back to their optima. A climb is over when the last `patience` children
    did not improve it. There is no barrier, as in evolution; so the order of completions matters.
    """

    sampler: MoveSampler
    scatterer: Uniform
    wave: int
    moves_per_child: int
    kick: int = 4
    scatter: int = 10
    parents: int = 10
    patience: int = 20
    select: Criterion = "accuracy"
    generational: ClassVar[bool] = False

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best of all climbs."""
        return best_of_all(view, self.select)

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The seed network, and the best of the current climb."""
        number = max((int(r.job.memo.get(CLIMB, 0)) for r in view.trials), default=0)
        climb = [r for r in view.searched if r.job.memo.get(CLIMB) == number]
        best = sorted(climb, key=lambda record: rank(record, self.select), reverse=True)
        return (*(r for r in view.complete if r.job.kind is Kind.SEED), *best[: self.parents])

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """One child."""
        generation, slot = birth(view, self.wave)
        draw = Random(derive(seed, generation, slot, "parent"))
        number = max((int(r.job.memo.get(CLIMB, 0)) for r in view.trials), default=0)
        climb = [r for r in view.trials if r.job.memo.get(CLIMB) == number]
        if self._over(climb):
            number, climb = number + 1, []
        root = next(record for record in view.complete if record.job.kind is Kind.SEED)
        scattering = len(climb) < self.scatter
        best = sorted(
            LedgerView(tuple(climb)).searched, key=lambda record: rank(record, self.select), reverse=True
        )[: self.parents]
        taken = {record.job.graph for record in view.trials}
        for attempt in range(2 * ATTEMPTS):
            if attempt == ATTEMPTS:  # nothing new nearby: start another climb
                number, scattering = number + (not scattering), True
            at = derive(seed, generation, slot, attempt)
            if scattering or not best:
                parent, found = root, self.scatterer.draw(view, root, self.kick, at)
            else:
                parent = draw.choice(best)
                found = self.sampler.draw(LedgerView(tuple(climb)), parent, self.moves_per_child, at, taken)
            if found is not None and found.graph not in taken:
                memo = {**found.memo, CLIMB: number}
                return (Proposal(generation, slot, parent.key, found.moves, found.graph, memo),)
        return ()

    def _over(self, climb: Sequence[TrialRecord]) -> bool:
        """Whether the last `patience` complete children did not improve the climb."""
        ended = LedgerView(tuple(climb)).searched
        if len(ended) < self.scatter + self.patience:
            return False
        best = max(ended, key=lambda record: rank(record, self.select))
        return best not in ended[-self.patience :]


def local_search(context: PolicyContext) -> LocalSearch:
    """Make local search from a run's configuration."""
    config, settings = context.config, context.settings
    return LocalSearch(
        context.sampler,
        context.uniform,
        config.children + 1,
        config.moves_per_child,
        settings.kick,
        settings.scatter,
        settings.parents,
        settings.patience,
        config.select,
    )
