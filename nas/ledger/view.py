"""A still picture of the ledger: what policies decide from and reports are made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from nas.base.errors import UserError
from nas.ledger.files import canonical_json, sha256
from nas.ledger.types import SCORE, TrialRecord

DROPPED = "dropped:"  # the notes that name removed checkpoints

FORCED = "forced"  # the note that keeps what changed under a run, each time as a list of facts


@dataclass(frozen=True)
class LedgerView:
    """The trials of a run, ordered by generation and slot; those without a job are left out.

    notes: what the driver wrote about the run as a whole (`Ledger.note`); the digest leaves it out.
    """

    trials: tuple[TrialRecord, ...]
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def trial(self, key: str) -> TrialRecord:
        """The trial at `generation.slot`. Raises UserError when there is none."""
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
        return tuple(record for record in self.trials if record.state == "complete")

    def generation(self, number: int) -> tuple[TrialRecord, ...]:
        """The trials of one generation, in whatever state, ordered by slot."""
        return tuple(record for record in self.trials if record.job.generation == number)

    @cached_property
    def best(self) -> TrialRecord | None:
        """The winner of the last generation that is all told and in which a trial ended well, by the criterion that
        the notes name under "select"; other generations trained longer or less. Where the notes name "all" under
        "rivals", the best of all trials. Never the final training.
        """
        searched = [record for record in self.complete if record.job.kind != "final"]
        if self.notes.get("rivals") == "all":
            select = self.notes.get("select", "accuracy")
            return max(searched, key=lambda record: rank(record, select), default=None)
        open_ones = {record.job.generation for record in self.trials if record.state == "running"}
        settled = [record for record in searched if record.job.generation not in open_ones] or searched
        last = max((record.job.generation for record in settled), default=0)
        select = self.notes.get("select", "accuracy")
        rivals = [record for record in settled if record.job.generation == last]
        top = max((record.job.extra.get("rung", 0) for record in rivals), default=0)
        rivals = [record for record in rivals if record.job.extra.get("rung", 0) == top]
        return max(rivals, key=lambda record: rank(record, select), default=None)

    @cached_property
    def final(self) -> TrialRecord | None:
        """The complete final training, if there is one."""
        return next((record for record in reversed(self.complete) if record.job.kind == "final"), None)

    @cached_property
    def checkpoints(self) -> frozenset[str]:
        """Digests of all that the complete trials have put into the store."""
        results = [record.result for record in self.complete if record.result is not None]
        return frozenset(
            digest for result in results for digest in (result.weights, result.momentum) if digest
        )

    def missing(self, there: Iterable[str]) -> frozenset[str]:
        """Those of the checkpoints that are neither `there` nor were removed on purpose."""
        return self.checkpoints.difference(self.dropped, there)

    @cached_property
    def dropped(self) -> frozenset[str]:
        """Digests of the checkpoints that were removed on purpose (`Ledger.drop`); their jobs can make them again."""
        return frozenset(
            digest for name, digests in self.notes.items() if name.startswith(DROPPED) for digest in digests
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what the run decided: for every finished trial in the order of generation and slot its
        place, kind, parent, moves, seed, state, fingerprint, scores and weight hash.

        No times, hosts, trial numbers or reasons; running trials don't count.
        """
        return sha256(
            canonical_json([decided(record) for record in self.trials if record.state != "running"])
        )


def view_of(records: Iterable[TrialRecord], notes: Mapping[str, Any] | None = None) -> LedgerView:
    """The view of `records`, given in any order."""
    ordered = sorted(records, key=lambda record: (record.job.generation, record.job.slot))
    return LedgerView(tuple(ordered), MappingProxyType(dict(notes or {})))


def score(record: TrialRecord) -> float:
    """The validation accuracy of a complete trial."""
    assert record.result is not None
    return record.result.scores[SCORE]


def rank(record: TrialRecord, select: str = "accuracy") -> tuple[float, float, int, int]:
    """Sort key of a complete trial among its generation, best last: the criterion `select` ("accuracy" or "loss", of
    the validation split), then the other, then fewer parameters, then the earlier slot.
    """
    assert record.result is not None
    accuracy, loss = score(record), -record.result.scores.get("val_loss", 0.0)
    first, second = (loss, accuracy) if select == "loss" else (accuracy, loss)
    return first, second, -record.result.params, -record.job.slot


def decided(record: TrialRecord) -> dict[str, Any]:
    """What the digest covers of a trial, as JSON values."""
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
