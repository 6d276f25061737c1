"""The time that a run still takes: from the steps of what runs, the policy's plan, and how long trials take here.

A search is so many generations of so many trials, then the final training. A trial takes as long as the last ones did,
with all that is around it. The final training has the steps that the plan gives it, at the speed of the best network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nas.config.run_config import RunConfig
from nas.ledger import TrialRecord

PASSES = 3  # forward passes that a training step costs
CLOSING = 0.5  # seconds for what follows the last evaluation
STEADY = 0.05  # share of a training after which its own speed is known


@dataclass(frozen=True)
class Work:
    """What is known of a search in progress.

    started, ended: when this session began to train and when each of its trials ended, by one clock. generation: the
    present one. undone: trials of it that are left, one in training by its share that is left. size: trials in a
    generation. told: the records of the session's trials. incumbent: the best so far.
    """

    config: RunConfig
    started: float
    ended: Sequence[float]
    generation: int
    undone: float
    size: int
    told: Sequence[TrialRecord]
    incumbent: TrialRecord | None


def search_and_final(work: Work) -> float | None:
    """Seconds until the end of the run; None if that is not known yet or not decided by generations or cost."""
    config, best = work.config, work.incumbent
    each = seconds_of_trial(work)
    if each is None or best is None or best.result is None:
        return None
    after = 2 * best.result.seconds.get("evaluate", 0.0) + CLOSING
    if config.generations is not None:
        trials = work.undone + max(0, config.generations - work.generation) * work.size
    elif config.cost is not None:
        share = 1 - config.final_share if config.grow_share is None else config.grow_share
        trials = max(0.0, config.cost * share - spent(work)) / max(1.0, trial_cost(work))
    else:
        return None
    return trials * each + final_steps(work, trials) * seconds_of_step(best) + after


def seconds_of_trial(work: Work) -> float | None:
    """Wall seconds from the end of a trial to the end of the next, over about the last two generations: so it holds how
    many are trained at once, and what lies between them. None before the first has ended.
    """
    ended = len(work.ended)
    if not ended:
        return None
    if ended == 1:  # the seed network, which was trained alone
        return (work.ended[0] - work.started) / min(work.config.workers, work.size)
    recent = min(ended - 1, 2 * work.size)
    return (work.ended[-1] - work.ended[-recent - 1]) / recent


def final_steps(work: Work, trials: float) -> float:
    """The steps of the final training, as `nas.run.final_training` will decide them, once `trials` more have ended."""
    config, best = work.config, work.incumbent
    assert best is not None
    assert best.result is not None
    if not config.final_share:
        return 0.0
    generations = work.generation if config.generations is None else config.generations
    steps = config.final_share / (1 - config.final_share) * (generations + 1) * best.steps
    if config.cost is None:
        return steps
    left = config.cost - spent(work) - trials * trial_cost(work)
    affordable = max(0.0, left) / (PASSES * best.result.macs * config.train.batch_size)
    return (
        affordable if config.schedule == "lineage" or config.generations is None else min(steps, affordable)
    )


def seconds_of_step(best: TrialRecord) -> float:
    """Seconds of a training step of the best network."""
    assert best.result is not None
    return best.result.seconds.get("train", 0.0) / max(1, best.steps)


def final_left(best: TrialRecord | None, steps: int, done: int, since: float) -> float | None:
    """Seconds left of a final training: by its own speed or, in its first steps, by that of the network's own trial.

    since: seconds since it began.
    """
    result = None if best is None else best.result
    after = CLOSING + 2 * (0.0 if result is None else result.seconds.get("evaluate", 0.0))
    if done > STEADY * steps:
        return since * (steps - done) / done + after
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
