"""The gain of each trial: its score minus the score of the same training without its moves."""

from __future__ import annotations

from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion, Kind
from nas.ledger.view import worth


def value(record: TrialRecord, select: Criterion) -> float:
    """What the search maximises: the validation score, negated where lower is better."""
    return worth(record, select)


def gains(view: LedgerView, select: Criterion) -> dict[str, float]:
    """For each complete child, its value minus that of its unchanged parent, trained equally long in the same
    generation; minus the value of the parent's own trial if there is no such rival.
    """
    complete = {record.key: record for record in view.complete}
    rivals = {
        (r.job.generation, r.job.parent, r.job.training.rung): r
        for r in complete.values()
        if r.job.kind is Kind.PARENT
    }
    found: dict[str, float] = {}
    for key, record in complete.items():
        job = record.job
        place = (job.generation, job.parent, job.training.rung)
        rival = rivals.get(place) or complete.get(job.parent or "")
        if job.kind is Kind.CHILD and job.moves and rival is not None:
            found[key] = value(record, select) - value(rival, select)
    return found
