"""What a search policy is: a pure function of (the ledger's view, seed) to proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import NO_JSON, Criterion, Kind
from nas.ledger.view import rank


@dataclass(frozen=True)
class Proposal:
    """A trial to perform at the place `generation.slot`: `moves` on the trial `parent`, giving `graph`.

    moves, graph: text, as in a job. No moves: the unchanged parent trains on. memo: JSON that the job is to
    carry, for the policy to read from later views; the engine never reads it and the digest leaves it out.
    share: the part of its allotment that it trains, under one cosine over the whole; one that doesn't begin at
    0 goes on where `parent` stopped, with its weights and its optimizer's momentum.
    """

    generation: int
    slot: int
    parent: str
    moves: str
    graph: str
    memo: Mapping[str, Any] = field(default_factory=lambda: NO_JSON)
    share: tuple[float, float] = (0.0, 1.0)

    @property
    def key(self) -> str:
        """The trial's place in the search, as in the ledger."""
        return f"{self.generation}.{self.slot}"


class Policy(Protocol):
    """Decides what is tried next, and which trial is the best. Reads nothing but its arguments.

    generational: a generation is proposed at once and begun only where the budget can pay for all of it; its
    winner is the best so far, since other generations trained longer or less. Otherwise trials come one by
    one as workers fall free, and the best of all trials is the best.
    """

    generational: ClassVar[bool]

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """What to start now. Asked while a worker is free, again after each trial that was started or ended.

        view: all trials so far, those in training among them (state RUNNING); the seed network's has ended.
        Empty: wait for trials to end or, where none is in training, nothing legal is left to try.
        """
        ...

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best trial so far."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """What a policy may say besides: of which trials it still has use. One that doesn't may choose any."""

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """Complete trials that may yet be parents, whichever trials end next.

        Those of the last generation, their parents, and what is in training need not be named.
        """
        ...


def best_of_all(view: LedgerView, select: Criterion) -> TrialRecord:
    """The best trial of the whole search."""
    return max(view.searched, key=lambda record: rank(record, select))


def birth(view: LedgerView, wave: int) -> tuple[int, int]:
    """(generation, slot) of the next trial where trials come one by one and `wave` of them are called a generation."""
    born = sum(record.job.kind in (Kind.PARENT, Kind.CHILD) for record in view.trials)
    return 1 + born // wave, born % wave
