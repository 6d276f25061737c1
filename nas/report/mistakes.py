"""What the final classifier gets wrong on the test split, as its trial keeps it, made ready for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic.dataclasses import dataclass as record

from nas.ledger import LedgerView
from nas.ledger.types import OPEN, Count, validated

PAIRS = 10  # of classes that are taken for each other, the most frequent first
MOST_CLASSES = 30  # in a matrix that is shown whole


@record(frozen=True, config=OPEN)
class Wrong:
    """One error. true, said: numbers of classes. sure: the probability of the class that was said."""

    place: Count
    true: Count
    said: Count
    sure: Annotated[float, Field(ge=0, le=1)]
    png: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9+/]*=*$", max_length=200_000)] = ""


@record(frozen=True, config=OPEN)
class Kept:
    """As `nas.execute.mistakes` writes them."""

    classes: tuple[str, ...]
    confusion: tuple[tuple[Count, ...], ...]
    surest: tuple[Wrong, ...]


@dataclass(frozen=True)
class Pair:
    """Examples of one class that were taken for another. share: of the class's examples."""

    true: str
    said: str
    count: int
    share: float


@dataclass(frozen=True)
class Mistakes:
    """matrix: a row for each true class of (count, share of the row); empty if there are too many classes to show."""

    classes: tuple[str, ...]
    matrix: tuple[tuple[tuple[int, float], ...], ...]
    pairs: tuple[Pair, ...]
    surest: tuple[Wrong, ...]
    wrong: int
    total: int


def mistakes_of(view: LedgerView) -> Mistakes | None:
    """The mistakes of the final network; None if the run has none, or if they are not of the form that it writes."""
    result = None if view.final is None else view.final.result
    if result is None or not result.mistakes:
        return None
    try:
        kept = validated(Kept, dict(result.mistakes))
    except ValueError:
        return None
    size = len(kept.classes)
    if len(kept.confusion) != size or any(len(row) != size for row in kept.confusion):
        return None
    rows = [tuple((n, n / max(1, sum(row))) for n in row) for row in kept.confusion]
    pairs = [
        Pair(kept.classes[true], kept.classes[said], n, share)
        for true, row in enumerate(rows)
        for said, (n, share) in enumerate(row)
        if true != said and n
    ]
    return Mistakes(
        classes=kept.classes,
        matrix=tuple(rows) if size <= MOST_CLASSES else (),
        pairs=tuple(sorted(pairs, key=lambda pair: -pair.count)[:PAIRS]),
        surest=tuple(w for w in kept.surest if w.true < size and w.said < size),
        wrong=sum(n for true, row in enumerate(rows) for said, (n, _) in enumerate(row) if true != said),
        total=sum(n for row in rows for n, _ in row),
    )
