"""Regularised evolution after Real, Aggarwal, Huang and Le (arXiv 1802.01548, algorithm 1), without a barrier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from nas.base.seeds import derive
from nas.config.settings import Settings
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion
from nas.ledger.view import rank
from nas.policies.policy import Proposal, best_of_all, birth

if TYPE_CHECKING:
    from nas.policies.entry import PolicyContext
    from nas.policies.sampling import MoveSampler

ATTEMPTS = 20  # draws for a child that is not in the ledger yet


class EvolutionSettings(Settings):
    """The settings of evolution."""

    population: int = Field(
        20, ge=1, le=10_000, description="The number of youngest trials, from which parents are selected."
    )
    tournament: int = Field(
        5,
        ge=1,
        le=10_000,
        description="The number of members of the population that compete to be the parent.",
    )
    train_on: bool = Field(
        True, description="The first trial of each generation is the unchanged winner, which trains further."
    )


@dataclass(frozen=True)
class Evolution:
    """Steady state: whenever a worker is free, propose one child of the winner of a tournament in the population.

    The population is the `population` youngest complete trials, by order of proposal: old trials are dropped however
    good they are, so that one lucky score does not dominate for ever. A tournament draws `tournament` of them at
    random. `wave` proposals are called a generation; with `train_on` the first of each is the unchanged winner, which
    trains further as any child does. Proposals depend on which trials have ended, hence on the order of completions,
    which the ledger records.
    """

    sampler: MoveSampler
    wave: int
    moves_per_child: int
    population: int = 20
    tournament: int = 5
    train_on: bool = True
    select: Criterion = "accuracy"
    generational: ClassVar[bool] = False

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best of all trials, in the population or not."""
        return best_of_all(view, self.select)

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The population: a trial that has left it never returns."""
        return view.searched[-self.population :]

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """One child; never empty while a legal move leads to a new architecture."""
        generation, slot = birth(view, self.wave)
        draw = Random(derive(seed, generation, slot, "parent"))
        seen = {record.job.graph for record in view.trials}
        for attempt in range(ATTEMPTS):
            parent = self.winner(view, draw)
            if self.train_on and slot == 0:
                return (Proposal(generation, slot, parent.key, "", parent.job.graph),)
            found = self.sampler.draw(
                view, parent, self.moves_per_child, derive(seed, generation, slot, attempt), seen
            )
            if found is not None and found.graph not in seen:
                return (Proposal(generation, slot, parent.key, found.moves, found.graph, found.memo),)
        return ()

    def winner(self, view: LedgerView, draw: Random) -> TrialRecord:
        """The best of `tournament` random members of the population."""
        members = view.searched[-self.population :]
        return max(
            draw.sample(members, min(self.tournament, len(members))),
            key=lambda record: rank(record, self.select),
        )


def evolution(context: PolicyContext) -> Evolution:
    """Make evolution from a run's configuration."""
    config, settings = context.config, context.settings
    return Evolution(
        context.sampler,
        config.children + 1,
        config.moves_per_child,
        settings.population,
        settings.tournament,
        settings.train_on,
        config.select,
    )
