"""The time that a run still takes: from the steps of what runs, the policy's plan, and how long trials take here.

A search is so many generations of so many trials, then the final training. A trial takes as long as the last ones did,
with all that is around it. The final training has the steps that the plan gives it, at the speed of the best network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas.config.run_config import RunConfig
from nas.ledger import TrialRecord
from nas.ledger.wall_time import seconds_of_last_evaluation

PASSES = 3  # forward passes that a training step costs
CLOSING = 1.0  # seconds for what follows the last evaluation
SPEED = 0.75  # with twice the multiply-adds a step takes about 2 ** SPEED times as long, since part of it is fixed
MOST_GROWTH = 1.5  # of a generation, in multiply-adds
STEADY = 0.05  # share of a training after which its own speed is known


@dataclass(frozen=True)
class Work:
    """What is known of a search in progress.

    size: trials in a generation. generation: the present one. undone: trials of it that are left, one in training by
    its share that is left. since: wall seconds since it began; before: those of a trial of the last one, all that lies
    between them included; None in the first one of this session. told: the records of this session's trials. incumbent:
    the best so far. first, last: multiply-adds of the seed network, and of the network that the last generation's
    trials started from, if known.
    """

    config: RunConfig
    size: int
    generation: int
    undone: float
    since: float
    before: float | None
    told: Sequence[TrialRecord]
    incumbent: TrialRecord | None
    first: int | None = None
    last: int | None = None


def search_and_final(work: Work) -> float | None:
    """Seconds until the end of the run; None if that is not known yet or not decided by generations or cost."""
    config, best = work.config, work.incumbent
    each = seconds_of_trial(work)
    if each is None or best is None or best.result is None:
        return None
    after = seconds_of_last_evaluation(best.result) + CLOSING
    if config.generations is not None:
        later = [growth(work) ** ahead for ahead in range(1, config.generations - work.generation + 1)]
        search = each * (work.undone + work.size * sum(rate**SPEED for rate in later))
        ahead = work.undone * trial_cost(work) + work.size * trial_cost(work) * sum(later)
    elif config.cost is not None:
        share = 1 - config.final_share if config.grow_share is None else config.grow_share
        ahead = max(0.0, config.cost * share - spent(work))
        search, later = each * ahead / max(1.0, trial_cost(work)), []
    else:
        return None
    return search + final_cost(work, ahead, later) * seconds_of_cost(best, config) + after


def seconds_of_trial(work: Work) -> float | None:
    """Wall seconds of a trial, divided by the number that are trained at once; None before the first has ended.

    It is measured on this generation once the work of one trial is done; before that it is the last one's, longer if
    the network has grown.
    """
    done = (work.size if work.generation else 1) - work.undone
    if work.generation and done >= 1:
        return work.since / done
    if work.before is not None:
        best = None if work.incumbent is None else work.incumbent.result
        grown = 1.0 if best is None or not work.last else best.macs / work.last
        return work.before * max(1.0, grown) ** SPEED
    return work.since / min(work.config.workers, work.size) if done >= 1 else None


def growth(work: Work) -> float:
    """How much a generation multiplies the cost of the network, and so of the next one's trials."""
    best = None if work.incumbent is None else work.incumbent.result
    if best is None or not work.first or not work.generation:
        return 1.0
    return min(MOST_GROWTH, max(1.0, (best.macs / work.first) ** (1 / work.generation)))


def final_cost(work: Work, ahead: float, later: Sequence[float]) -> float:
    """Multiply-adds of the final training, as `nas.run.final_training` will decide its steps. ahead: those of the
    search that are left. later: the cost of a trial of each generation to come, in trials of this one.
    """
    config = work.config
    if not config.final_share:
        return 0.0
    left = math.inf if config.cost is None else max(0.0, config.cost - spent(work) - ahead)
    left = min(left, most_left(work, ahead))
    ends = config.cost is not None or config.budget is not None
    if ends and (config.schedule == "lineage" or config.generations is None) and left < math.inf:
        return left
    costs = {
        record.job.generation: _cost(record, config) for record in work.told if record.result is not None
    }
    now = trial_cost(work)
    before = max(0, work.generation + 1 - len(costs)) * now  # of earlier sessions, and of this generation
    lineage = sum(costs.values()) + before + now * sum(later)
    return min(left, config.final_share / (1 - config.final_share) * lineage)


def most_left(work: Work, ahead: float) -> float:
    """Multiply-adds that `most_epochs` leaves for the final training of a lineage, after `ahead` more of the search."""
    config, best = work.config, work.incumbent
    trials = [record for record in work.told if record.result is not None and record.steps]
    if config.most_epochs is None or config.final == "restart" or not trials or best is None:
        return math.inf
    epoch = trials[0].steps / config.epochs  # in steps
    steps = sum({record.job.generation: record.steps for record in trials}.values())
    assert best.result is not None
    each = PASSES * config.train.batch_size * best.result.macs
    return max(0.0, (config.most_epochs * epoch - steps) * each - ahead / max(1, work.size))


def seconds_of_step(best: TrialRecord) -> float:
    """Seconds of a training step of the best network."""
    assert best.result is not None
    return best.result.seconds.get("train", 0.0) / max(1, best.steps)


def seconds_of_cost(best: TrialRecord, config: RunConfig) -> float:
    """Seconds of a multiply-add of the best network's training."""
    assert best.result is not None
    return seconds_of_step(best) / max(1, PASSES * config.train.batch_size * best.result.macs)


def final_left(
    best: TrialRecord | None, steps: int, done: int, since: float, pace: float | None
) -> float | None:
    """Seconds left of a final training: by its own speed or, in its first steps, by that of the network's own trial.

    since: seconds since it began. pace: those of one of its last steps, if known.
    """
    result = None if best is None else best.result
    after = CLOSING + (0.0 if result is None else seconds_of_last_evaluation(result))
    if done > STEADY * steps:
        return (since / done if pace is None else pace) * (steps - done) + after
    if best is None or result is None:
        return None
    return max(0.0, steps * seconds_of_step(best) - since) + after


def spent(work: Work) -> float:
    """Multiply-adds of the trials that have ended, as `nas.run.charge` counts the largest part of them."""
    return float(sum(_cost(record, work.config) for record in work.told))


def trial_cost(work: Work) -> float:
    """Multiply-adds of a trial, as the last generation's had."""
    recent = [record for record in work.told if record.result is not None][-work.size :]
    return spent(replace(work, told=recent)) / max(1, len(recent))


def _cost(record: TrialRecord, config: RunConfig) -> int:
    macs = 0 if record.result is None else record.result.macs
    return PASSES * record.steps * config.train.batch_size * macs
