"""Hill climbing after Elsken, Metzen and Hutter (arXiv 1711.04528, algorithm 1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from nas.base.seeds import derive
from nas.config.option import Shown
from nas.config.settings import Settings
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.types import Criterion, State
from nas.ledger.view import rank, settled
from nas.policies.judge import advantage
from nas.policies.policy import Proposal

if TYPE_CHECKING:
    from nas.policies.entry import PolicyContext
    from nas.policies.sampling import Draw, MoveSampler

ATTEMPTS = 20  # draws for a child that equals no other competitor


class HillClimbSettings(Settings):
    """The settings of hill-climb."""

    rungs: Annotated[int, Shown(metavar="N")] = Field(
        1,
        ge=1,
        le=8,
        description="Train a generation in N rungs; the better half of each advances to the next.",
    )
    parent: Annotated[bool | None, Shown(unset="yes; no if a budget or cost sets the pace")] = Field(
        None,
        description="Whether the unchanged parent competes with its children. Without it the best child always "
        "replaces it, and networks grow as far as limits and generations allow, which a budget chooses well.",
    )
    margin: Annotated[float, Shown(metavar="X")] = Field(
        0.0,
        ge=-10,
        le=10,
        description="A child replaces its parent if it is better by more than X standard errors of their difference on "
        "the validation images; below 0: if it is not worse by more. Only in a lineage.",
    )


@dataclass(frozen=True)
class HillClimb:
    """Proposes, from the best network of the last generation, `children` children by `moves_per_child` moves each.

    The unchanged parent is slot 0 of every generation, so that growth wins only when it pays for itself at once; not
    if `parent` is false: a small network leads for the first third of a schedule, also where it loses in the end.
    The best has the highest validation accuracy, or the lowest validation loss (`select`): on a few hundred images
    accuracy often ties where the loss still differs.

    rungs: with more than one, siblings are halved among themselves (successive halving, Jamieson and Talwalkar,
    arXiv 1502.07943): all train the first part of their allotment, the better half continues for as long again,
    and so on; those of the last rung have trained their whole allotment. A competitor in rung r is a separate trial,
    r x (children + 1) slots later, whose parent is its trial of the rung before.
    """

    sampler: MoveSampler
    children: int
    moves_per_child: int
    select: Criterion = "accuracy"
    rungs: int = 1
    margin: float = 0.0
    parent: bool = True
    generational: ClassVar[bool] = True

    def incumbent(self, view: LedgerView) -> TrialRecord:
        """The best of the last rung of the last ended generation: other trials trained longer or less. The unchanged
        parent stays unless the best child is better by `margin`.
        """
        rivals = settled(view)
        best = max(rivals, key=lambda record: rank(record, self.select))
        if not self.margin:
            return best
        parents = [record for record in rivals if record.job.slot % (self.children + 1) == 0]
        children = [record for record in rivals if record not in parents]
        if not parents or not children:
            return best
        child = max(children, key=lambda record: rank(record, self.select))
        gain = advantage(child, parents[0], self.select)
        if gain is None:
            return best
        return child if gain.mean > self.margin * gain.error else parents[0]

    def possible_parents(self, view: LedgerView) -> Sequence[TrialRecord]:
        """The incumbent alone."""
        return (self.incumbent(view),)

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        """The next rung or generation once the last has ended; before that, the rest of an interrupted one."""
        trials = [record for record in view.trials if not record.job.final]
        last = max(record.job.generation for record in trials)
        begun = [record for record in trials if record.job.generation == last]
        if last > 0 and self._rung(begun[-1]) == 0 and len(begun) <= self.children:
            missing = self._missing(view, last, seed)
            if missing:
                return missing
        rung = self._rung(begun[-1])
        if last > 0 and (missing := self._next_rung(begun, rung)):
            return missing
        if any(record.running for record in begun):
            return ()
        if last > 0 and (following := self._next_rung(begun, rung + 1)):
            return following
        return self._missing(view, last + 1, seed)

    def _rung(self, record: TrialRecord) -> int:
        return record.job.slot // (self.children + 1)

    def _ranked(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The complete trials of the last rung that has any, best first."""
        ended = [record for record in records if record.state is State.COMPLETE]
        last = max((self._rung(record) for record in ended), default=0)
        rivals = [record for record in ended if self._rung(record) == last]
        return sorted(rivals, key=lambda record: rank(record, self.select), reverse=True)

    def _next_rung(self, begun: Sequence[TrialRecord], rung: int) -> Sequence[Proposal]:
        """The trials that advance to `rung`, if there is such a rung, without those already in the ledger."""
        if rung == 0 or rung >= self.rungs:
            return ()
        before = self._ranked([record for record in begun if self._rung(record) == rung - 1])
        best = sorted(before[: -(-len(before) // 2)], key=lambda record: record.job.slot)
        known = {record.key for record in begun}
        proposals = [
            Proposal(
                record.job.generation, record.job.slot + self.children + 1, record.key, "", record.job.graph,
                share=(self._reached(rung - 1), self._reached(rung)),
            )
            for record in best
        ]  # fmt: skip
        return [proposal for proposal in proposals if proposal.key not in known]

    def _reached(self, rung: int) -> float:
        """The share of the allotment that is trained at the end of `rung`."""
        return 2.0 ** (rung + 1 - self.rungs)

    def _missing(self, view: LedgerView, generation: int, seed: int) -> Sequence[Proposal]:
        """The competitors of `generation`, decided from earlier ones, without those already in the ledger."""
        before = LedgerView(tuple(record for record in view.trials if record.job.generation < generation))
        known = {record.key for record in view.generation(generation)}
        return tuple(p for p in self.competitors(before, generation, seed) if p.key not in known)

    def competitors(self, view: LedgerView, generation: int, seed: int) -> Sequence[Proposal]:
        """The parent and its children; a child that equals another competitor is drawn again."""
        parent = self.incumbent(view)
        share = (0.0, self._reached(0))
        unchanged = Proposal(generation, 0, parent.key, "", parent.job.graph, share=share)
        children: list[Proposal] = []
        for slot in range(1, self.children + 1):
            seen = {parent.job.graph, *(child.graph for child in children)}
            seeds = [derive(seed, generation, slot, attempt) for attempt in range(ATTEMPTS)]
            found = self._drawn(view, parent, seeds, seen, children)
            if found is not None:
                children.append(
                    Proposal(generation, slot, parent.key, found.moves, found.graph, found.memo, share)
                )
        return [*([unchanged] if self.parent else []), *children] if children else ()

    def _drawn(
        self,
        view: LedgerView,
        parent: TrialRecord,
        seeds: Sequence[int],
        seen: Collection[str],
        siblings: Sequence[Proposal],
    ) -> Draw | None:
        """A child of an architecture not `seen`, one draw for each seed. Where the parent does not compete, its kinds
        of move differ from its siblings' if any such child is drawn: the generation decides between ways to grow.
        """
        known = set() if self.parent else {_kinds(sibling.moves) for sibling in siblings}
        kept: Draw | None = None
        for seed in seeds:
            found = self.sampler.draw(view, parent, self.moves_per_child, seed, seen)
            if found is None or found.graph in seen:
                continue
            if _kinds(found.moves) not in known:
                return found
            kept = kept or found
        return kept


def _kinds(moves: str) -> frozenset[str]:
    """The names of the moves in a chain."""
    return frozenset(move.partition("(")[0].strip() for move in moves.split("; "))


def hill_climb(context: PolicyContext) -> HillClimb:
    """Make hill climbing from a run's configuration."""
    config, settings = context.config, context.settings
    children, moves, alone = config.children, config.moves_per_child, settings.parent is False
    return HillClimb(
        context.sampler, children, moves, config.select, settings.rungs, settings.margin, not alone
    )
