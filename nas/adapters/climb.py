"""A search without an engine: what to train next, given what came of the trials so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

import morphs
from morphs import MOVES, Limits, Move, Network
from nas.base.errors import UserError
from nas.base.moves import parse_chain
from nas.base.seeds import derive
from nas.execute.task import Checkpoints
from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.view import view_of
from nas.policies.hill_climb import HillClimb
from nas.policies.policy import Policy
from nas.policies.sampling import SpaceMoves, Uniform
from search_spaces import Space

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Candidate:
    """A network to train and score, in plain values: `moves` on what the trial `parent` left, giving `graph`.

    key, parent: places in the search, generation.slot. moves: text; '' trains the parent on, or, where there is no
    parent, the fresh seed network. graph: canonical JSON. seed: for everything random about this trial.
    parent_weights: what the parent's trial reported as its weights, a digest of `nas.ledger.Store`. extra: JSON that
    the policy reads again from later views.
    """

    key: str
    parent: str | None
    moves: str
    graph: str
    seed: int
    parent_weights: str | None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The candidate as JSON values; `Candidate(**values)` makes it again."""
        return asdict(self)

    def network(
        self,
        store: Checkpoints,
        batches: Iterable[tuple[Tensor, Tensor]] | None = None,
        loss: Loss | None = None,
        moves: tuple[type[Move], ...] = MOVES,
    ) -> Network:
        """The network to train: the parent's from `store`, with the moves applied and checked.

        batches, loss: for moves that look at data, as in `morphs.apply`. moves: what the chain may hold. Raises
        MorphError, RunError.
        """
        if self.parent_weights is None:
            return morphs.init(morphs.graph_from_json(self.graph), derive(self.seed, "init"))
        network = store.get(self.parent_weights)
        held = None if batches is None else list(batches)
        chain = parse_chain(self.moves, moves)
        for child in morphs.apply_chain(network, chain, derive(self.seed, "morph") >> 1, held, loss):
            network = child.network
        return network


@dataclass(frozen=True)
class Climb:
    """A policy bound to a space. generations: how many to propose; None: as long as a move is legal.

    Pure: the same trials and seed give the same candidate. What a policy or its sampler keeps with its proposals (TPE's
    choices, the climbs of a local search) comes back to it. Refused by a UserError are trials that train a part of
    their allotment (rungs), since how long a trial trains is for the user's own loop to say, and the loss as criterion,
    since a trial reports one score: at once where the policy has such a setting, else once it proposes such a trial.
    """

    space: Space
    policy: Policy
    seed: int = 0
    generations: int | None = None

    def __post_init__(self) -> None:
        policy: Any = self.policy
        name = type(policy).__name__
        if getattr(policy, "rungs", 1) != 1:
            raise UserError(_no_rungs(name))
        sampler = getattr(policy, "sampler", None)
        for part in (policy, sampler):
            select = getattr(part, "select", "accuracy")
            if select != "accuracy":
                fact = f"climb: {type(part).__name__} selects by {select}, but a trial here reports one score"
                raise UserError(f'{fact}; make it with select="accuracy" and report what is to grow')

    def next(self, view: LedgerView) -> Candidate | None:
        """What to train next. None: wait for a trial in training to end or, where there is none, the search is over.

        Raises UserError where the policy proposes a part of a training.
        """
        if not view.trials:
            return self._candidate(0, 0, None, "", self.space.seed.to_json(), None, {})
        if not view.complete:
            return None
        proposals = self.policy.propose(view, self.seed)
        if not proposals:
            return None
        first = proposals[0]
        if self.generations is not None and first.generation > self.generations:
            return None
        if first.share != (0.0, 1.0):
            raise UserError(_no_rungs(type(self.policy).__name__))
        result = view.trial(first.parent).result
        weights = None if result is None else result.weights
        place = first.generation, first.slot
        return self._candidate(*place, first.parent, first.moves, first.graph, weights, first.extra)

    def best(self, view: LedgerView) -> TrialRecord | None:
        """The best trial so far, if one has ended well."""
        return self.policy.incumbent(view) if view.complete else None

    def _candidate(
        self, generation: int, slot: int, parent: str | None, moves: str, graph: str, weights: str | None,
        extra: Mapping[str, Any],
    ) -> Candidate:  # fmt: skip
        seed = derive(self.seed, generation, slot, _kind(parent, moves))
        return Candidate(f"{generation}.{slot}", parent, moves, graph, seed, weights, dict(extra))


def hill_climb(
    space: Space, children: int = 3, moves_per_child: int = 2, seed: int = 0, generations: int | None = None
) -> Climb:
    """Hill climbing in `space` (NASH, arXiv 1711.04528), as `nas search` does it."""
    sampler = Uniform(SpaceMoves(space, space.limits or Limits()))
    return Climb(space, HillClimb(sampler, children, moves_per_child), seed, generations)


def running(candidate: Candidate, number: int) -> TrialRecord:
    """The record of a trial in training."""
    generation, _, slot = candidate.key.partition(".")
    job = Job(
        kind=_kind(candidate.parent, candidate.moves), generation=int(generation), slot=int(slot),
        parent=candidate.parent, moves=candidate.moves, seed=candidate.seed, steps=0, graph=candidate.graph,
        extra=dict(candidate.extra),
    )  # fmt: skip
    return TrialRecord(job, "running", None, None, number, 0.0, None)


def complete(record: TrialRecord, score: float, weights: str) -> TrialRecord:
    """The same trial, ended with a score (higher is better) and the digest of its trained weights.

    Raises ValueError for what is no finite number or no digest.
    """
    graph = morphs.graph_from_json(record.job.graph)
    spent = morphs.cost(graph)
    result = Result(graph.fingerprint, weights, {"val_accuracy": score}, spent.params, spent.macs)
    return replace(record, state="complete", result=result, finished=0.0)


def failed(record: TrialRecord, reason: str = "") -> TrialRecord:
    """The same trial, ended without a result."""
    return replace(record, state="failed", reason=reason, finished=0.0)


def view(records: Iterable[TrialRecord]) -> LedgerView:
    """What a policy decides from."""
    return view_of(records)


def _no_rungs(name: str) -> str:
    fact = f"climb: {name} trains in rungs, which a loop of one's own doesn't perform"
    return f"{fact}; use one that trains each trial at once (rungs=1), or nas search --rungs"


def _kind(parent: str | None, moves: str) -> str:
    return "seed" if parent is None else "child" if moves else "parent"
