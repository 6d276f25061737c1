"""Decides which checkpoints a run still needs and removes the others (`--keep best:N`).

A removed checkpoint can be recreated: the ledger has the parent, the moves, the seed and the training of every
trial, and `nas fsck --repair` makes the same weights from them, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nas.ledger import Ledger, LedgerView, TrialRecord
from nas.ledger.types import Criterion
from nas.ledger.view import rank
from nas.policies.policy import Forgets, Policy
from nas.run.plan import last_generation


@dataclass(frozen=True)
class Retention:
    """Removes checkpoints that a run no longer needs. best: see `needed`. start: what the run began with, which nothing
    can recreate.
    """

    ledger: Ledger
    policy: Policy
    best: int | None
    select: Criterion
    start: str | None = None
    _paused: set[str] = field(
        default_factory=set[str]
    )  # digests of all paused trainings that this process has seen

    def sweep(self, opening: bool = False) -> None:
        """Remove checkpoints that are not needed; removals from completed trials are recorded first.

        opening: also remove checkpoints that no trial names, left by trials that died before their result was
        recorded. Later in a run, such a checkpoint may belong to a trial whose result is about to be recorded.
        """
        view, pauses = self.ledger.view(), self.ledger.pauses()
        self._paused.update(pauses)
        stay = needed(view, self.policy, self.best, self.select) | pauses | {self.start}
        known = view.checkpoints | self._paused
        gone = [d for d in self.ledger.store.digests() if d not in stay and (opening or d in known)]
        if gone:
            self.ledger.drop(gone, str(last_generation(view)))


def needed(view: LedgerView, policy: Policy, best: int | None, select: Criterion) -> frozenset[str]:
    """Digests of the checkpoints that must stay, except those of paused trainings, which the ledger knows.

    These are: what running trials read, and the weights of the final network, of the incumbent and of the `best` trials
    (None: all trials). While the search is not over, also everything that a possible parent has stored: those of the
    last generation, their parents, and whatever the policy names. What only a continued training needs, its last
    weights and its momentum, stays no longer than that.
    """
    live = [record for record in view.trials if record.running]
    kept = {digest for record in live for digest in record.job.training.checkpoints}
    ended = view.searched
    top = sorted(ended, key=lambda record: rank(record, select), reverse=True)[:best]
    kept |= _weights(top) | _weights(record for record in view.complete if record.job.final)
    if ended:
        incumbent = policy.incumbent(view)
        kept |= _weights((incumbent,)) if view.final is not None else _stored((incumbent,))
    return frozenset(kept if view.notes.stopped else kept | _growing(view, policy, ended))


def _growing(view: LedgerView, policy: Policy, ended: Sequence[TrialRecord]) -> set[str]:
    """What a continued search may read. A generation may be interrupted anywhere, also between its rungs."""
    young = [record for record in view.trials if record.job.generation >= last_generation(view)]
    kept = {digest for record in young for digest in record.job.training.checkpoints} | _stored(young)
    if ended:
        kept |= _stored(policy.possible_parents(view) if isinstance(policy, Forgets) else ended)
    return kept


def _weights(records: Iterable[TrialRecord]) -> set[str]:
    return {record.result.weights for record in records if record.result is not None}


def _stored(records: Iterable[TrialRecord]) -> set[str]:
    return {digest for record in records if record.result is not None for digest in record.result.checkpoints}
