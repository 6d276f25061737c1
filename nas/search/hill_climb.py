"""Hill climbing after Elsken, Metzen and Hutter (arXiv 1711.04528, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from morphs import Limits
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.view import rank
from nas.search.policy import Criterion, Proposal, graph_of, random_chain
from nas.seeds import derive
from search_spaces import Space


@dataclass(frozen=True)
class HillClimb:
    """From the best network of the last generation, `children` children by `moves_per_child` random moves each.

    The unchanged parent is slot 0 of every generation, so that growth wins only when it pays for itself. The best
    is the one of the highest validation accuracy, or of the lowest validation loss (`select`): on a few hundred
    images accuracy ties where the loss still tells networks apart.
    """

    space: Space
    limits: Limits
    children: int
    moves_per_child: int
    select: Criterion = "accuracy"

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best trial of the last generation that has one: trials of other generations trained longer or less."""
        last = max(record.job.generation for record in view.complete if record.job.kind != "final")
        rivals = [r for r in view.complete if r.job.generation == last and r.job.kind != "final"]
        return max(rivals, key=lambda record: rank(record, self.select))

    def propose(self, view: LedgerView, generation: int, seed: int) -> Sequence[Proposal]:
        """The parent and its children; children that equal another competitor are not tried twice."""
        parent = self.incumbent(view)
        graph = graph_of(parent)
        proposals = [Proposal(0, parent.job.key, (), graph)]
        seen = {graph}
        for slot in range(1, self.children + 1):
            for attempt in range(20):
                draw = derive(seed, generation, slot, attempt)
                found = random_chain(graph, self.space, self.limits, self.moves_per_child, draw)
                if found is not None and found[1] not in seen:
                    seen.add(found[1])
                    proposals.append(Proposal(slot, parent.job.key, *found))
                    break
        return proposals if len(proposals) > 1 else ()
