"""How sure it is that one trial is better than another: a paired test on the validation images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.base.errors import LedgerDamaged
from nas.ledger import TrialRecord
from nas.ledger.sample import Sample, sample_from
from nas.ledger.sqlite import damage
from nas.ledger.types import Criterion


@dataclass(frozen=True)
class Advantage:
    """mean: by how much one trial is better than another, per image: in loss, or in the share of images that are right.
    error: the standard error of that mean over the images. It leaves out the chance of another training.
    """

    mean: float
    error: float

    @property
    def confidence(self) -> float:
        """The chance that the difference on unseen images has the sign of `mean`, by the normal distribution."""
        if self.error == 0:
            return 1.0 if self.mean else 0.5
        return 0.5 * (1 + math.erf(abs(self.mean) / self.error / math.sqrt(2)))


def advantage(one: TrialRecord, other: TrialRecord, select: Criterion) -> Advantage | None:
    """The advantage of `one` over `other`, paired by image; None if the trials keep no outcomes of single images.

    Scores other than the accuracy are no means over images, so the losses stand for them. Raises LedgerDamaged for
    outcomes that no search writes.
    """
    first, second = _sample(one), _sample(other)
    if first is None or second is None:
        return None
    if len(first.losses) != len(second.losses):
        raise LedgerDamaged(damage(f"the result of trial {one.key}", f"not of the images of {other.key}"))
    if select != "accuracy":
        gains = second.losses.astype(float) - first.losses.astype(float)
    else:
        gains = first.hits.astype(float) - second.hits.astype(float)
    count = len(gains)
    return Advantage(
        float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
    )


def _sample(record: TrialRecord) -> Sample | None:
    text = None if record.result is None else record.result.sample
    try:
        return sample_from(text) if text else None
    except ValueError as error:
        raise LedgerDamaged(damage(f"the result of trial {record.key}", str(error))) from None
