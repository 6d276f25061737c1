"""Which checkpoints a run still needs, so that the others may be removed (`--keep best:N`).

What is removed is no more than a copy: the ledger has the parent, the moves, the seed and the training of every
trial, and `nas fsck --repair` makes the same weights from them again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nas.execute.task import reads
from nas.ledger import Ledger, LedgerView, TrialRecord
from nas.ledger.types import Criterion
from nas.ledger.view import rank
from nas.policies.policy import Forgets, Policy
from nas.run.plan import last_generation


@dataclass(frozen=True)
class Retention:
    """Removes what a run needs no more. best: see `needed`."""

    ledger: Ledger
    policy: Policy
    best: int | None
    select: Criterion
    _paused: set[str] = field(
        default_factory=set[str]
    )  # digests of all the pauses that this process has seen

    def sweep(self, opening: bool = False) -> None:
        """Remove checkpoints, recording those of told trials first.

        opening: also those that no trial names: left by trials that died before they were told. Later such a one
        may be of a trial that is about to be told.
        """
        view, pauses = self.ledger.view(), self.ledger.pauses()
        self._paused.update(pauses)
        if self.best is None and not opening and not self._paused:
            return  # nothing can go
        stay, known = (
            needed(view, self.policy, self.best, self.select) | pauses,
            view.checkpoints | self._paused,
        )
        gone = [d for d in self.ledger.store.digests() if d not in stay and (opening or d in known)]
        if gone:
            self.ledger.drop(gone, str(last_generation(view)))


def needed(view: LedgerView, policy: Policy, best: int | None, select: Criterion) -> frozenset[str]:
    """Digests of the checkpoints that must stay; where running trials have paused is for the ledger to say.

    Those that trials in training read, the final network's, the incumbent's, the `best` trials' (None: all trials');
    while the search goes on also what may yet be a parent: all of its last generation with the parents of that, and
    what else the policy names.
    """
    live = [record for record in view.trials if record.running]
    kept = {digest for record in live for digest in reads(record.job)}
    if best is None:
        return view.checkpoints | kept
    ended = view.searched
    top = sorted(ended, key=lambda record: rank(record, select), reverse=True)[:best]
    kept |= _weights(top) | _weights(record for record in view.complete if record.job.final)
    if ended:
        kept |= _weights((policy.incumbent(view),))
    return frozenset(kept if view.notes.stopped else kept | _growing(view, policy, ended))


def _growing(view: LedgerView, policy: Policy, ended: Iterable[TrialRecord]) -> set[str]:
    """What a search that goes on may read: a generation may be cut short anywhere, also between its rungs."""
    young = [record for record in view.trials if record.job.generation >= last_generation(view)]
    kept = {digest for record in young for digest in reads(record.job)}
    results = [record.result for record in young if record.result is not None]
    kept |= {digest for result in results for digest in (result.weights, result.momentum) if digest}
    old = list(ended)
    if old:
        kept |= _weights(policy.possible_parents(view) if isinstance(policy, Forgets) else old)
    return kept


def _weights(records: Iterable[TrialRecord]) -> set[str]:
    return {record.result.weights for record in records if record.result is not None}
