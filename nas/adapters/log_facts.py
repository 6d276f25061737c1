"""What the loggers write about a trial, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.ledger import TrialRecord
from nas.ledger.scores import called, chosen, merit
from nas.ledger.types import Criterion
from nas.ledger.wall_time import seconds_of


def parameters(record: TrialRecord) -> dict[str, Any]:
    """What a trial was asked to do."""
    job = record.job
    return {
        "trial": job.key, "generation": job.generation, "slot": job.slot, "kind": job.kind.value,
        "parent": job.parent or "", "moves": job.moves, "seed": job.seed, "steps": record.steps,
    }  # fmt: skip


def measured(record: TrialRecord) -> dict[str, float]:
    """The scores of a trial, its size and its seconds; empty if it has failed."""
    result = record.result
    if result is None:
        return {}
    drift = {"drift_eval": result.drift_eval, "drift_train": result.drift_train}
    known = {name: value for name, value in drift.items() if value is not None}
    size = {
        "params": float(result.params),
        "macs": float(result.macs),
        "seconds": round(seconds_of(result), 3),
    }
    return {**result.scores, **size, **known}


@dataclass
class Best:
    """The best value so far of the score that selects. name: of it, as in "validation loss"."""

    select: Criterion
    value: float | None = None

    def told(self, record: TrialRecord) -> tuple[str, float] | None:
        """The name and the best value, with this trial; None if no trial has a result."""
        if record.result is not None:
            which, value = chosen(record.result.scores, self.select, record.result.main)
            self.select = which
            if self.value is None or merit(which, value) > merit(which, self.value):
                self.value = value
        return None if self.value is None else (f"best validation {called(self.select)}", self.value)
