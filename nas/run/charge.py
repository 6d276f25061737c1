"""The cost of trials in multiply-adds, from their plans: so it is the same on every machine, and known in advance."""

from __future__ import annotations

from morphs import cost, graph_from_json
from nas.config.run_config import RunConfig
from nas.execute.task import CALIBRATION_BATCHES, averaged_steps
from nas.ledger import Job, LedgerView
from nas.train.averaging import NORM_BATCHES


def trial_cost(job: Job, config: RunConfig, validation: int) -> int:
    """Multiply-adds of a trial: three forward passes for each image it trains on, one for each that it evaluates.

    Also counted: the batches that moves look at, and those that update the norms of averaged weights. Not counted, as
    they are far below a percent: the arithmetic of moves and the measurement of their drift.
    validation: images in that split. Reading the test split is not counted.
    """
    batch = config.train.batch_size
    passes = 3 * job.steps * batch + validation
    if job.given:
        passes += validation  # what it scores before any training
    if job.moves:
        passes += CALIBRATION_BATCHES * batch
    if averaged_steps(job, config.train):
        passes += NORM_BATCHES * batch
    return cost(graph_from_json(job.graph)).macs * passes


def spent(view: LedgerView, config: RunConfig, validation: int) -> int:
    """Multiply-adds of all trials so far, those that failed or still run included."""
    return sum(trial_cost(record.job, config, validation) for record in view.trials)
