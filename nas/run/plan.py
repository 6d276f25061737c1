"""Derives the next jobs from the ledger's view, by pure functions, so that a resumed run decides the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from morphs import MOVES, ArchGraph, Limits, Move, Preserves, cost, graph_from_json, parse_chain
from morphs.errors import MorphError, ShapeError
from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.base.user_code import where_raised
from nas.config.run_config import MODEL, RunConfig
from nas.data import SearchData
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.types import Kind, State, Training
from nas.policies.builtin import make_policy
from nas.policies.policy import Policy, Proposal
from nas.policies.sampling import graph_of
from nas.registry.defaults import REGISTRY
from nas.registry.named_code import move_named
from nas.registry.registry import Registry
from nas.run.start import check_fits
from nas.train import steps_for
from search_spaces import Space, from_model


@dataclass(frozen=True)
class Plan:
    """What a run does, independent of timing: its configuration bound to a space, a policy and its data's size."""

    config: RunConfig
    space: Space
    policy: Policy
    images: int  # of the training split
    validation: int  # images of the validation split
    moves: tuple[type[Move], ...] = MOVES  # all moves that the run may use

    @property
    def rounds(self) -> int:
        """How many trials a worker performs in sequence before the next decision."""
        competitors = self.config.children + 1 if self.policy.generational else 1
        return -(-competitors // min(self.config.workers, competitors))


def make_plan(
    config: RunConfig, data: SearchData, registry: Registry = REGISTRY, start: ArchGraph | None = None
) -> Plan:
    """Make the plan of a run whose configuration was checked against `registry`.

    start: the network that it starts from, instead of the space's. Raises UserError when the seed network already
    breaks a limit or does not fit the data, the space is ill-formed, or the task has no score that is called as the
    configuration says.
    """
    config = config.model_copy(update={"select": data.task.criterion(config.select)})
    space = make_space(config, data, registry, start)
    own = {name: value for name, value in vars(space.limits).items() if value is not None}
    limits = Limits(**{**own, **config.limits, "batch": config.train.batch_size})
    broken = limits.violation(space.seed)
    if broken is not None:
        name = broken.partition(" ")[0]
        raise UserError(
            f'search: the seed network of space "{config.space}": {broken}; raise that limit: --limit {name}=N'
        )
    moves = moves_of(space, registry)
    policy = make_policy(
        config, space, limits, registry.policies, registry.samplers, registry.objectives, moves
    )
    return Plan(config, space, policy, len(data.train), len(data.val), moves)


def make_space(
    config: RunConfig, data: SearchData, registry: Registry, start: ArchGraph | None = None
) -> Space:
    """Make the space of a run, with the moves that the configuration adds. start: as for `make_plan`. Raises UserError
    if it is ill-formed, or if there is nothing to start from.
    """
    if start is not None:
        check_fits(start, data)
    try:
        space: Any = _space(config, data, registry, start)
        if not isinstance(space, Space):
            fact = f'search: space "{config.space}" returned a {type(space).__name__}'
            raise UserError(f"{fact}; return a search_spaces.Space")
        if start is not None:
            space = replace(space, seed=start)
        present = {move for move, _ in space.moves}
        more = dict.fromkeys(move_named(name, registry) for name in config.moves)
        return replace(space, moves=(*space.moves, *((move, {}) for move in more if move not in present)))
    except ShapeError as error:
        raise UserError(
            f'search: space "{config.space}" is not for inputs {list(data.input_shape)} ({error}); use the space auto, '
            "or see nas spaces"
        ) from None
    except MorphError as error:
        raise UserError(f'search: space "{config.space}": {error}') from None
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise UserError(
            f'search: space "{config.space}" failed ({where_raised(error)}); fix the space'
        ) from error


def _space(config: RunConfig, data: SearchData, registry: Registry, start: ArchGraph | None) -> Any:
    if config.space != MODEL:
        return registry.spaces[config.space](data.input_shape, data.outputs, data.tokens)
    if start is None:
        raise UserError(
            f'search: "{MODEL}" is the space of a search from a model; name the model with --from'
        )
    space = from_model(start)
    if not space.moves and not config.moves:
        raise UserError(
            "search: no move fits the model that the search starts from; nas morph MODEL --refused says why"
        )
    return space


def moves_of(space: Space, registry: Registry) -> tuple[type[Move], ...]:
    """All moves that a run in `space` may use. Raises UserError if two of them share a name."""
    own = dict.fromkeys(move for move, _ in space.moves if move not in registry.moves)
    return registry.with_(moves=own).moves


def seed_job(plan: Plan, failed: int = 0) -> Job:
    """The job of generation 0: the seed network from fresh weights, different ones for each time it `failed`, or the
    model that the search starts from, trained on.
    """
    graph, start = plan.space.seed, plan.config.start
    job = _with_start(
        plan, _job(plan, Kind.SEED, 0, failed, None, "", graph, _steps(plan, graph, graph)), None
    )
    if start is None or plan.config.weights == "fresh":
        return job
    return replace(job, training=replace(job.training, weights=start))


def next_jobs(plan: Plan, view: LedgerView) -> tuple[Job, ...]:
    """The jobs that the policy wants started now; see `Policy.propose` for the meaning of an empty answer.

    Without generations, each job lists the trials that had ended when it was decided and that no earlier job lists: so
    the ledger holds the order of completions as far as it mattered.
    """
    proposals = plan.policy.propose(view, plan.config.seed)
    if not proposals:
        return ()
    parents = {record.key: record for record in view.complete}
    jobs = [_proposed(plan, parents[proposal.parent], proposal) for proposal in proposals]
    seen = () if plan.policy.generational else unseen(view)
    return (replace(jobs[0], seen=seen), *jobs[1:])


def unseen(view: LedgerView) -> tuple[str, ...]:
    """Keys of the ended trials that no job lists as seen yet, in the ledger's order."""
    seen = {key for record in view.trials for key in record.job.seen}
    return tuple(record.key for record in view.trials if not record.running and record.key not in seen)


def as_seen(view: LedgerView, ended: frozenset[str]) -> LedgerView:
    """`view` as it was when only the trials `ended` had ended."""
    records = (
        record
        if record.key in ended
        else replace(record, state=State.RUNNING, result=None, reason=None, finished=None)
        for record in view.trials
    )
    return LedgerView(tuple(records), view.notes)


def _proposed(plan: Plan, parent: TrialRecord, proposal: Proposal) -> Job:
    graph, (begin, end) = graph_from_json(proposal.graph), proposal.share
    before = parent.job.training
    total = before.total if begin and before.total is not None else _allotment(plan, parent, proposal, graph)
    start, stop = round(begin * total), max(1, round(end * total))
    kind = parent.job.kind if begin else Kind.CHILD if proposal.moves else Kind.PARENT
    place = proposal.generation, proposal.slot
    job = _job(plan, kind, *place, parent, proposal.moves, graph, max(1, stop - start))
    training = job.training
    rung = before.rung + 1 if begin else 0
    if plan.config.schedule == "restarts" and proposal.share != (0.0, 1.0):
        training = replace(training, start=start, total=total, rung=rung)
    if begin and parent.result is not None:
        training = replace(training, momentum=parent.result.momentum, rest=parent.result.rest)
    job = replace(job, training=replace(training, rung=rung), memo=proposal.memo)
    return _with_start(plan, job, parent)


def _with_start(plan: Plan, job: Job, parent: TrialRecord | None) -> Job:
    """`job` with what it starts from. In a run with lineages it goes on where `parent` stopped, at a constant rate
    after the warm-up, on the same batches as all jobs of its generation and rung.
    """
    config, training, start = plan.config, job.training, 0
    result = None if parent is None else parent.result
    fresh = config.weights == "fresh" and not training.rung and not job.final
    if parent is None or result is None or fresh:
        training = replace(training, weights=None, momentum=None, rest=())
    elif config.schedule == "lineage":
        start = parent.job.training.start + parent.job.steps
        weights = result.last or result.weights
        training = replace(training, weights=weights, momentum=result.momentum, rest=result.rest)
    if config.schedule == "lineage":
        batches = derive(config.seed, job.generation, training.rung, "batches")
        training = replace(training, start=start, total=start + job.steps, decay=0, batches=batches)
    return replace(job, training=training)


def final_job(plan: Plan, view: LedgerView, steps: int) -> Job:
    """The final training of the best network, from its weights or from scratch (with 0 steps, its weights as they are).

    In a lineage it is the rest of the schedule: the rate stays constant until `final_share` of the whole is left, and
    then decays. Its slot is the number of final trainings that failed.
    """
    best = plan.policy.incumbent(view)
    failed = sum(record.job.final for record in view.trials)
    config = plan.config
    job = _job(plan, Kind.FINAL, last_generation(view) + 1, failed, best, "", graph_of(best), steps)
    if not steps:
        return job
    job = _final_training(plan, view, job, best)
    return _on_all(job, best) if config.final_data == "all" else job


def _on_all(job: Job, best: TrialRecord) -> Job:
    """`job` on the validation examples too, with the validation scores of the network that it begins with."""
    assert best.result is not None
    judged = {name: value for name, value in best.result.scores.items() if name.startswith("val_")}
    return replace(job, training=replace(job.training, judged=judged))


def _final_training(plan: Plan, view: LedgerView, job: Job, best: TrialRecord) -> Job:
    config, steps = plan.config, job.steps
    restart = config.final == "restart"
    if config.schedule == "restarts":
        return replace(job, training=Training()) if restart else job
    job = _with_start(plan, job, None if restart else best)
    start = job.training.start
    before = 0 if restart else lineage_steps(plan, view)
    decay = min(steps, round(config.final_share * (before + steps)))
    training = replace(job.training, total=start + steps, decay=max(1, decay), batches=None)
    return replace(job, training=training)


def lineage_steps(plan: Plan, view: LedgerView) -> int:
    """The best network's lineage so far, in steps of the best network at equal cost: one allotment per generation."""
    best = plan.policy.incumbent(view)
    records = {record.job.key: record for record in view.complete}
    at: TrialRecord | None = best
    spent = 0
    while at is not None and at.result is not None:
        spent += at.job.steps * at.result.macs
        at = records.get(at.job.parent) if at.job.parent else None
    return round(spent / cost(graph_of(best)).macs)


def last_generation(view: LedgerView) -> int:
    """The last generation of the search that has a trial; 0 if none has."""
    return max((record.job.generation for record in view.trials if not record.job.final), default=0)


def _allotment(plan: Plan, parent: TrialRecord, proposal: Proposal, graph: ArchGraph) -> int:
    """Training steps that cost as much as the parent's epochs, or that see as many images. A child that learns from its
    parent also pays for the parent's forward pass, a third of the cost of training the parent.
    """
    parent_graph = graph_of(parent)
    if plan.config.equal == "images":
        return _steps(plan, parent_graph, parent_graph)
    taught = plan.config.schedule == "restarts" and any(
        move.preserves is Preserves.APPROXIMATE for move in parse_chain(proposal.moves, plan.moves)
    )
    return _steps(plan, parent_graph, graph, round(cost(parent_graph).macs / 3) if taught else 0)


def _steps(plan: Plan, incumbent: ArchGraph, graph: ArchGraph, more: int = 0) -> int:
    config = plan.config
    return steps_for(
        cost(incumbent).macs, cost(graph).macs + more, plan.images, config.epochs, config.train.batch_size
    )


def _job(
    plan: Plan, kind: Kind, generation: int, slot: int, parent: TrialRecord | None, moves: str, graph: ArchGraph,
    steps: int,
) -> Job:  # fmt: skip
    weights = parent.result.weights if parent is not None and parent.result is not None else None
    return Job(
        kind=kind,
        generation=generation,
        slot=slot,
        parent=parent.job.key if parent is not None else None,
        moves=moves,
        seed=derive(plan.config.seed, generation, slot, kind),
        steps=steps,
        graph=graph.to_json(),
        training=Training(weights=weights),
    )
