"""The final training: its length, and its division into parts, so that a kill costs at most one part."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nas.ledger import Job, LedgerView, Reached
from nas.ledger.types import Lengths, Stopped, TimeLeft
from nas.run.charge import spent
from nas.run.plan import Plan, lineage_steps
from nas.run.speed import seconds_a_step, seconds_after

PART_SECONDS = 30.0  # least time between two checkpoints


def final_steps(plan: Plan, view: LedgerView, stopped: Stopped, wall: float, startup: float = 0.0) -> int:
    """`final_share` of all training, within the budget or the cost; all that is left of it where that ended the search,
    and in a lineage, whose schedule ends with it.

    wall: seconds spent so far. startup: see `closing_seconds`.
    """
    config = plan.config
    if not config.final_share:
        return 0
    best = plan.policy.incumbent(view)
    assert best.result is not None
    whole = stopped == "budget" or config.schedule == "lineage"
    most = _most_steps(plan, view)
    steps = round(config.final_share / (1 - config.final_share) * lineage_steps(plan, view))
    if config.cost is not None:
        left = config.cost - spent(view, config, plan.validation) - best.result.macs * plan.validation
        affordable = max(0, int(left / (3 * best.result.macs * config.train.batch_size)))
        return min(most, affordable if whole else min(steps, affordable))
    if config.budget is None:
        return min(most, steps)
    left = config.budget - wall
    left -= seconds_after(best, startup, config.budget, left)
    affordable = max(0, int(0.95 * left / max(1e-9, seconds_a_step(view, best))))
    return min(most, affordable if whole else min(steps, affordable))


def _most_steps(plan: Plan, view: LedgerView) -> int:
    """The most steps that `most_epochs` leaves for the final training; at least 1."""
    config = plan.config
    if config.most_epochs is None:
        return 2**62
    before = 0 if config.final == "restart" else lineage_steps(plan, view)
    return max(1, round(config.most_epochs * plan.images / config.train.batch_size) - before)


@dataclass(frozen=True)
class Timing:
    """What the clock says of a final training. left: seconds of the budget, None if there is no budget or if `lengths`
    says how the training's length changes on the way, as it did in a replayed run. startup: see `closing_seconds`.
    """

    left: float | None = None
    startup: float = 0.0
    lengths: Lengths = ()


def next_part(
    plan: Plan, view: LedgerView, job: Job, reached: Reached | None, timing: Timing = Timing()
) -> Job:
    """The next part of `job` to perform: a part of a final training, continued from `reached`; any other job whole.

    However it is divided, the parts together give the same result as the undivided job, bit for bit.
    """
    if not job.final or not job.steps:
        return job
    stop = _part_steps(plan, view, job) + (reached.step if reached else 0)
    lengths = timing.lengths or (reached.lengths if reached else ())
    clocked = timing.left is not None  # so that it may become longer
    training = replace(job.training, until=stop if clocked or stop < job.steps else None, lengths=lengths)
    if timing.left is not None:
        left = _time_left(plan, view, job, reached, timing.left, timing.startup)
        training = replace(training, left=left)
    if reached is None:
        return replace(job, training=training)
    training = replace(
        training, weights=reached.weights, momentum=reached.momentum, rest=reached.rest, since=reached
    )
    return replace(job, moves="", training=training)


def _time_left(
    plan: Plan, view: LedgerView, job: Job, reached: Reached | None, left: float, startup: float
) -> TimeLeft:
    """What the clock leaves, at the speed of the parts so far; at first at that of the search, whose trials are short
    and slow at their start.
    """
    best = view.trial(str(job.parent))
    after, pace = seconds_after(best, startup, plan.config.budget, left), seconds_a_step(view, best)
    now = reached.seconds.get("train", 0.0) / reached.step if reached is not None else 0.0
    if now > 0:
        after, pace = after * max(1.0, now / max(1e-9, pace)), now
    return TimeLeft(seconds=left, after=after, pace=pace, most=_most_steps(plan, view))


def _part_steps(plan: Plan, view: LedgerView, job: Job) -> int:
    """The fewest whole epochs that take at least `PART_SECONDS`, at the speed of the network's own trial."""
    best = view.trial(str(job.parent))
    epoch = -(-plan.images // plan.config.train.batch_size)
    pace = best.result.seconds.get("train", 0.0) / max(1, best.steps) if best.result else 0.0
    return epoch * max(1, math.ceil(PART_SECONDS / (epoch * pace))) if pace > 0 else epoch
