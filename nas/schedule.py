"""From the ledger's view to the jobs of a generation: pure functions, so that a resumed run decides the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

from morphs import ArchGraph, Limits, cost
from nas.config import RunConfig
from nas.data import SearchData
from nas.errors import UserError
from nas.ledger import Job, LedgerView, TrialRecord
from nas.search import HillClimb, Policy, graph_of
from nas.seeds import derive
from nas.train import steps_for
from search_spaces import SPACES, Space


@dataclass(frozen=True)
class Plan:
    """What a run does, apart from when: its configuration bound to a space, a policy and the size of its data."""

    config: RunConfig
    space: Space
    policy: Policy
    images: int  # of the training split

    @property
    def rounds(self) -> int:
        """How many competitors of a generation a worker performs, one after the other."""
        competitors = self.config.children + 1
        return -(-competitors // min(self.config.workers, competitors))


def make_plan(config: RunConfig, data: SearchData) -> Plan:
    """The plan of a run. Raises UserError when the seed network already breaks a limit."""
    space = SPACES[config.space](data.input_shape, len(data.classes))
    limits = Limits(**{**_set(space.limits), **config.limits})
    broken = limits.violation(space.seed)
    if broken is not None:
        raise UserError(f'search: the seed network of space "{config.space}": {broken}; raise that limit')
    return Plan(
        config,
        space,
        HillClimb(space, limits, config.children, config.moves_per_child, config.select),
        len(data.train),
    )


def _set(limits: Limits) -> dict[str, int]:
    return {name: value for name, value in vars(limits).items() if value is not None}


def seed_job(plan: Plan) -> Job:
    """Generation 0: the seed network, trained from fresh weights."""
    return _job(plan, "seed", 0, 0, None, "", plan.space.seed, _steps(plan, plan.space.seed, plan.space.seed))


def generation_jobs(plan: Plan, view: LedgerView, generation: int) -> tuple[Job, ...]:
    """The competitors of `generation` ≥ 1, given all that was told before it; empty when nothing is left to try."""
    before = LedgerView(tuple(record for record in view.trials if record.job.generation < generation))
    proposals = plan.policy.propose(before, generation, plan.config.seed)
    parents = {record.job.key: record for record in before.complete}
    incumbent = graph_of(plan.policy.incumbent(before))
    return tuple(
        _job(
            plan,
            "child" if proposal.moves else "parent",
            generation,
            proposal.slot,
            parents[proposal.parent],
            "; ".join(map(str, proposal.moves)),
            proposal.graph,
            _steps(plan, incumbent, proposal.graph),
        )
        for proposal in proposals
    )


def final_job(plan: Plan, view: LedgerView, steps: int) -> Job:
    """The final training of the best network, from its weights or afresh (without steps: its weights as they are).

    Its slot is 0, and one more for each final training that failed.
    """
    best = plan.policy.incumbent(view)
    failed = sum(record.job.kind == "final" for record in view.trials)
    job = _job(plan, "final", last_generation(view) + 1, failed, best, "", graph_of(best), steps)
    return replace(job, extra={}) if plan.config.final == "restart" and steps else job


def last_generation(view: LedgerView) -> int:
    """The last generation of the search that has a trial; 0 where none has begun."""
    return max((record.job.generation for record in view.trials if record.job.kind != "final"), default=0)


def lineage_steps(plan: Plan, view: LedgerView) -> int:
    """Steps that cost what the best network's own lineage has cost so far: one allotment for each generation."""
    best = plan.policy.incumbent(view)
    records = {record.job.key: record for record in view.complete}
    at: TrialRecord | None = best
    spent = 0
    while at is not None and at.result is not None:
        spent += at.job.steps * at.result.macs
        at = records.get(at.job.parent) if at.job.parent else None
    return round(spent / cost(graph_of(best)).macs)


def _steps(plan: Plan, incumbent: ArchGraph, graph: ArchGraph) -> int:
    config = plan.config
    return steps_for(
        cost(incumbent).macs, cost(graph).macs, plan.images, config.epochs, config.train.batch_size
    )


def _job(
    plan: Plan, kind: str, generation: int, slot: int, parent: TrialRecord | None, moves: str, graph: ArchGraph,
    steps: int,
) -> Job:  # fmt: skip
    extra = (
        {"parent_weights": parent.result.weights} if parent is not None and parent.result is not None else {}
    )
    return Job(
        kind=kind,
        generation=generation,
        slot=slot,
        parent=parent.job.key if parent is not None else None,
        moves=moves,
        seed=derive(plan.config.seed, generation, slot, kind),
        steps=steps,
        graph=graph.to_json(),
        extra=extra,
    )
