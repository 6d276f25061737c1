"""A search without the engine: choose what to train next from the results of the trials so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

import morphs
from morphs import MOVES, Limits, Move, Network, parse_chain
from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.execute.task import Checkpoints
from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.types import Kind, State
from nas.policies.hill_climb import HillClimb
from nas.policies.policy import Policy
from nas.policies.sampling import SpaceMoves, Uniform
from search_spaces import Space

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Candidate:
    """A network to train and score, as plain values: the result of trial `parent`, changed by `moves` into `graph`.

    key, parent: places in the search, as generation.slot. moves: text; '' trains the parent further or, without a
    parent, the fresh seed network. graph: canonical JSON. seed: for all randomness of this trial. parent_weights: the
    digest in `nas.ledger.Store` that the parent's trial reported. memo: JSON that the policy reads back from later
    views.
    """

    key: str
    parent: str | None
    moves: str
    graph: str
    seed: int
    parent_weights: str | None
    memo: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as JSON values; `candidate_from` restores it."""
        return asdict(self)

    def network(
        self,
        store: Checkpoints,
        batches: Iterable[tuple[Tensor, Tensor]] | None = None,
        loss: Loss | None = None,
        moves: tuple[type[Move], ...] = MOVES,
    ) -> Network:
        """Return the network to train: the parent's from `store`, with the moves applied and checked.

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


def candidate_from(document: Mapping[str, Any]) -> Candidate:
    """The candidate of `to_dict`, also of the first version, which called the memo `extra`."""
    return Candidate(**{"memo" if name == "extra" else name: value for name, value in document.items()})


@dataclass(frozen=True)
class Climb:
    """A policy bound to a space. generations: how many to propose; None: as long as a move is legal.

    Pure: the same trials and seed give the same candidate. What a policy or its sampler stores with its proposals
    (TPE's choices, the climbs of a local search) is handed back to it.

    Raises UserError for rungs, since the user's own loop decides how long a trial trains, and for the loss as
    criterion, since a trial reports one score: at construction if the policy has such a setting, else when it
    proposes such a trial.
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
            if select not in ("", "accuracy"):
                fact = f"climb: {type(part).__name__} selects by {select}, but a trial here reports one score"
                raise UserError(f'{fact}; create it with select="accuracy" and report a score to maximize')

    def next(self, view: LedgerView) -> Candidate | None:
        """Return what to train next. None: wait for a running trial to end or, if none is running, the search is over.

        Raises UserError if the policy proposes only a part of a training.
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
        return self._candidate(*place, first.parent, first.moves, first.graph, weights, first.memo)

    def best(self, view: LedgerView) -> TrialRecord | None:
        """Return the best trial so far; None before one is complete."""
        return self.policy.incumbent(view) if view.complete else None

    def _candidate(
        self, generation: int, slot: int, parent: str | None, moves: str, graph: str, weights: str | None,
        memo: Mapping[str, Any],
    ) -> Candidate:  # fmt: skip
        seed = derive(self.seed, generation, slot, _kind(parent, moves))
        return Candidate(f"{generation}.{slot}", parent, moves, graph, seed, weights, dict(memo))


def hill_climb(
    space: Space, children: int = 3, moves_per_child: int = 2, seed: int = 0, generations: int | None = None
) -> Climb:
    """Return hill climbing in `space` (NASH, arXiv 1711.04528), as in `nas search`."""
    sampler = Uniform(SpaceMoves(space, space.limits or Limits()))
    return Climb(space, HillClimb(sampler, children, moves_per_child), seed, generations)


def running(candidate: Candidate, number: int) -> TrialRecord:
    """Return the record of a running trial."""
    generation, _, slot = candidate.key.partition(".")
    job = Job(
        kind=_kind(candidate.parent, candidate.moves), generation=int(generation), slot=int(slot),
        parent=candidate.parent, moves=candidate.moves, seed=candidate.seed, steps=0, graph=candidate.graph,
        memo=candidate.memo,
    )  # fmt: skip
    return TrialRecord(job, State.RUNNING, None, None, number, 0.0, None)


def complete(record: TrialRecord, score: float, weights: str) -> TrialRecord:
    """Return the trial completed with a score (higher is better) and the digest of its trained weights.

    Raises ValueError if the score is not finite or the digest is not valid.
    """
    graph = morphs.graph_from_json(record.job.graph)
    spent = morphs.cost(graph)
    result = Result(graph.fingerprint, weights, {"val_accuracy": score}, spent.params, spent.macs)
    return replace(record, state=State.COMPLETE, result=result, finished=0.0)


def failed(record: TrialRecord, reason: str = "") -> TrialRecord:
    """Return the trial ended without a result."""
    return replace(record, state=State.FAILED, reason=reason, finished=0.0)


def _no_rungs(name: str) -> str:
    return f"climb: {name} trains in rungs, which a custom loop does not support; use rungs=1, or nas search --rungs"


def _kind(parent: str | None, moves: str) -> Kind:
    return Kind.SEED if parent is None else Kind.CHILD if moves else Kind.PARENT
