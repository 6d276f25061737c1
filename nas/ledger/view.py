"""An immutable snapshot of the ledger, from which policies decide and reports are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas.base.errors import UserError
from nas.ledger.files import canonical_json, sha256
from nas.ledger.notes import NO_NOTES, Notes
from nas.ledger.scores import chosen, merit
from nas.ledger.types import Criterion, State, TrialRecord


@dataclass(frozen=True)
class LedgerView:
    """The trials of a run that have a job, ordered by generation and slot.

    notes: the driver's notes about the run as a whole.
    """

    trials: tuple[TrialRecord, ...]
    notes: Notes = NO_NOTES

    def trial(self, key: str) -> TrialRecord:
        """The trial at `generation.slot`. Raises UserError if there is none."""
        if key not in self._by_key:
            known = (
                f"choose one of {self.trials[0].key} … {self.trials[-1].key}"
                if self.trials
                else "none has started"
            )
            raise UserError(f"trial {key}: the run has no such trial; {known}")
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[str, TrialRecord]:
        return {record.key: record for record in self.trials}

    @cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        """The trials that have a result."""
        return tuple(record for record in self.trials if record.state is State.COMPLETE)

    def generation(self, number: int) -> tuple[TrialRecord, ...]:
        """The trials of one generation, in any state, ordered by slot."""
        return self._by_generation.get(number, ())

    @cached_property
    def _by_generation(self) -> dict[int, tuple[TrialRecord, ...]]:
        found: dict[int, list[TrialRecord]] = {}
        for record in self.trials:
            found.setdefault(record.job.generation, []).append(record)
        return {number: tuple(records) for number, records in found.items()}

    @cached_property
    def searched(self) -> tuple[TrialRecord, ...]:
        """The complete trials of the search itself, without final trainings."""
        return tuple(record for record in self.complete if not record.job.final)

    @cached_property
    def incumbent(self) -> TrialRecord | None:
        """The trial that the run's policy would hand out now: the one meaning of "best".

        It is read from the driver's note, since a policy may be user code. A ledger of a version without that note: the
        best of all trials, or of the last generation that has ended (`settled`), depending on `notes.rivals`.
        """
        if self.notes.incumbent in self._by_key and self._by_key[self.notes.incumbent].result is not None:
            return self._by_key[self.notes.incumbent]
        rivals = self.searched if self.notes.rivals == "all" else settled(self)
        return max(rivals, key=lambda record: rank(record, self.notes.select), default=None)

    @cached_property
    def best(self) -> TrialRecord | None:
        """The final network's trial, or else the incumbent."""
        return self.final or self.incumbent

    @cached_property
    def final(self) -> TrialRecord | None:
        """The complete final training, if there is one."""
        return next((record for record in reversed(self.complete) if record.job.final), None)

    @cached_property
    def checkpoints(self) -> frozenset[str]:
        """Digests of all checkpoints that the complete trials have written."""
        results = [record.result for record in self.complete if record.result is not None]
        return frozenset(digest for result in results for digest in result.checkpoints)

    def missing(self, present: Iterable[str]) -> frozenset[str]:
        """The checkpoints that are not `present` and were not removed on purpose."""
        return self.checkpoints.difference(self.dropped, present)

    @cached_property
    def dropped(self) -> frozenset[str]:
        """Digests of the checkpoints removed on purpose (`Ledger.drop`); their jobs can recreate them."""
        return frozenset().union(*self.notes.dropped.values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the run's decisions and results: for every ended trial, in the order of generation and slot, its
        place, kind, parent, moves, seed, state, fingerprint, scores and weight hash.

        Times, hosts, trial numbers, reasons and running trials are not included.
        """
        return sha256(canonical_json([decided(record) for record in self.trials if not record.running]))


def view_of(records: Iterable[TrialRecord], notes: Notes = NO_NOTES) -> LedgerView:
    """The view of `records`, given in any order."""
    ordered = sorted(records, key=lambda record: (record.job.generation, record.job.slot))
    return LedgerView(tuple(ordered), notes)


def settled(view: LedgerView) -> tuple[TrialRecord, ...]:
    """The complete trials of the last rung of the last generation with no running trial; if every generation has one,
    of the last generation. Other generations trained longer or less.
    """
    running = {record.job.generation for record in view.trials if record.running}
    ended = [record for record in view.searched if record.job.generation not in running] or view.searched
    last = max((record.job.generation for record in ended), default=0)
    rivals = [record for record in ended if record.job.generation == last]
    top = max((record.job.training.rung for record in rivals), default=0)
    return tuple(record for record in rivals if record.job.training.rung == top)


def score(record: TrialRecord) -> float:
    """The validation score of a complete trial that its task ranks by: the accuracy, of a classification."""
    assert record.result is not None
    return record.result.value


def worth(record: TrialRecord, select: Criterion) -> float:
    """What a search maximises: the validation score `select` of a complete trial, negated where lower is better."""
    assert record.result is not None
    return merit(*chosen(record.result.scores, select, record.result.main))


def rank(record: TrialRecord, select: Criterion = "accuracy") -> tuple[float, float, int, int]:
    """Sort key of a complete trial in its generation, best last: the validation score `select`, then the loss (after
    the loss the task's own score), then fewer parameters, then the earlier slot.
    """
    result = record.result
    assert result is not None
    second = merit(result.main, result.value) if select == "loss" else -result.scores.get("val_loss", 0.0)
    return worth(record, select), second, -result.params, -record.job.slot


def decided(record: TrialRecord) -> dict[str, Any]:
    """The parts of a trial that the digest covers, as JSON values."""
    job, result = record.job, record.result
    return {
        "generation": job.generation,
        "slot": job.slot,
        "kind": job.kind,
        "parent": job.parent,
        "moves": job.moves,
        "seed": job.seed,
        "state": record.state,
        "fingerprint": result and result.fingerprint,
        "scores": result and dict(result.scores),
        "weights": result and result.weights,
    }
