"""Hill climbing after Elsken, Metzen and Hutter (arXiv 1711.04528, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nas.ledger import LedgerView, TrialRecord
from nas.ledger.view import rank
from nas.search.moves import MoveSampler
from nas.search.policy import Criterion, Proposal, searched
from nas.seeds import derive

ATTEMPTS = 20  # draws for a child that equals no other competitor


@dataclass(frozen=True)
class HillClimb:
    """From the best network of the last generation, `children` children by `moves_per_child` random moves each.

    The unchanged parent is slot 0 of every generation, so that growth wins only when it pays for itself. The best
    is the one of the highest validation accuracy, or of the lowest validation loss (`select`): on a few hundred
    images accuracy ties where the loss still tells networks apart.
    """

    sampler: MoveSampler
    children: int
    moves_per_child: int
    select: Criterion = "accuracy"
    generational: ClassVar[bool] = True

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best trial of the last generation that has one: trials of other generations trained longer or less."""
        last = max(record.job.generation for record in searched(view))
        rivals = [record for record in searched(view) if record.job.generation == last]
        return max(rivals, key=lambda record: rank(record, self.select))

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """The next generation once the last has ended; before that what is missing of one that a crash cut short."""
        trials = [record for record in view.trials if record.job.kind != "final"]
        last = max(record.job.generation for record in trials)
        begun = [record for record in trials if record.job.generation == last]
        if last > 0 and len(begun) <= self.children:
            missing = self._missing(view, last, seed)
            if missing:
                return missing
        if any(record.state == "running" for record in begun):
            return ()
        return self._missing(view, last + 1, seed)

    def _missing(self, view: LedgerView, generation: int, seed: int) -> Sequence[Proposal]:
        """The competitors of `generation`, decided from those before it, without those that are in the ledger."""
        before = LedgerView(tuple(record for record in view.trials if record.job.generation < generation))
        there = {record.key for record in view.generation(generation)}
        return tuple(p for p in self.competitors(before, generation, seed) if p.key not in there)

    def competitors(self, view: LedgerView, generation: int, seed: int) -> Sequence[Proposal]:
        """The parent and its children; children that equal another competitor are not tried twice."""
        parent = self.incumbent(view)
        proposals = [Proposal(generation, 0, parent.key, "", parent.job.graph)]
        seen = {parent.job.graph}
        for slot in range(1, self.children + 1):
            for attempt in range(ATTEMPTS):
                found = self.sampler.draw(
                    view, parent, self.moves_per_child, derive(seed, generation, slot, attempt)
                )
                if found is not None and found.graph not in seen:
                    seen.add(found.graph)
                    proposals.append(
                        Proposal(generation, slot, parent.key, found.moves, found.graph, found.extra)
                    )
                    break
        return proposals if len(proposals) > 1 else ()
