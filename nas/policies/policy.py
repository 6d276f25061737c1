"""The policy protocol: a pure function from (the ledger's view, seed) to proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import NO_JSON, Criterion, Kind
from nas.ledger.view import rank


@dataclass(frozen=True)
class Proposal:
    """A trial to perform at `generation.slot`: `moves` applied to the trial `parent`, giving `graph`.

    moves, graph: text, as in a job. Without moves the unchanged parent trains further. memo: JSON stored in the job,
    for the policy to read from later views; the engine never reads it and the digest leaves it out.
    share: the part of its allotment that it trains, under one schedule over the whole; a share that doesn't begin at
    0 continues where `parent` stopped, with its weights and its optimizer's momentum.
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
    """Decides what to try next and which trial is the best. Reads nothing but its arguments.

    generational: if true, a generation is proposed at once and started only if the budget allows for all of it; its
    winner is the best so far, since other generations trained longer or less. Otherwise trials are proposed one by
    one as workers become free, and the best is the best of all trials.
    """

    generational: ClassVar[bool]

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """What to start now. Called while a worker is free, and again after each trial that starts or ends.

        view: all trials so far, including those in training (state RUNNING); the seed network's has ended.
        Return an empty sequence to wait for trials to end; if none is running, it ends the search: no legal move is
        left.
        """
        ...

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best trial so far."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """An optional method of a policy that names the trials it may still use. Without it, it may use any trial."""

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """Complete trials that may still become parents, whichever trials end next.

        Trials of the last generation, their parents, and running trials need not be named.
        """
        ...


def best_of_all(view: LedgerView, select: Criterion) -> TrialRecord:
    """The best trial of the whole search."""
    return max(view.searched, key=lambda record: rank(record, select))


def birth(view: LedgerView, wave: int) -> tuple[int, int]:
    """(generation, slot) of the next trial of a steady-state policy that calls `wave` trials a generation."""
    proposed = sum(record.job.kind in (Kind.PARENT, Kind.CHILD) for record in view.trials)
    return 1 + proposed // wave, proposed % wave
