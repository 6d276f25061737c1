"""Random search: walks by random moves that ignore scores. The baseline for every other policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nas.base.seeds import derive
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion, Kind, State
from nas.policies.policy import Proposal, best_of_all

if TYPE_CHECKING:
    from nas.policies.entry import PolicyContext
    from nas.policies.sampling import Uniform


@dataclass(frozen=True)
class RandomWalk:
    """Performs `walks` parallel walks from the seed network; a step is `moves_per_child` random moves and a training.

    Step g of walk s is the trial g.s. No walk waits for another, scores are ignored, and moves are drawn uniformly,
    never by a sampler that learns, so the order of completions doesn't matter. A failed step is skipped; a walk without
    a legal move restarts at the seed network.
    """

    sampler: Uniform
    walks: int
    moves_per_child: int
    select: Criterion = "accuracy"
    generational: ClassVar[bool] = False

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best of all trials."""
        return best_of_all(view, self.select)

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The last complete step of each walk, and the seed network."""
        steps = {record.job.slot: record for record in view.complete if record.job.kind is Kind.CHILD}
        return (*(record for record in view.complete if record.job.kind is Kind.SEED), *steps.values())

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """The next step of the shortest walk among those with no running trial."""
        root = next(record for record in view.complete if record.job.kind is Kind.SEED)
        steps: list[list[TrialRecord]] = [[] for _ in range(self.walks)]
        for record in view.trials:
            if record.job.kind is Kind.CHILD:
                steps[record.job.slot].append(record)
        idle = [s for s in range(self.walks) if not steps[s] or not steps[s][-1].running]
        for slot in sorted(idle, key=lambda s: len(steps[s])):
            generation = len(steps[slot]) + 1
            last = next((record for record in reversed(steps[slot]) if record.state is State.COMPLETE), root)
            for parent in (last, root):
                found = self.sampler.draw(
                    view, parent, self.moves_per_child, derive(seed, generation, slot, 0)
                )
                if found is not None:
                    return (Proposal(generation, slot, parent.key, found.moves, found.graph, found.memo),)
        return ()


def random_walk(context: PolicyContext) -> RandomWalk:
    """Make random search from a run's configuration."""
    config = context.config
    return RandomWalk(context.uniform, config.children, config.moves_per_child, config.select)
