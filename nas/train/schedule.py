"""The number of training steps and their learning rates: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from nas.base.errors import UserError
from nas.config.training import TrainConfig


def learning_rate(step: float, total: int, config: TrainConfig, decay: int | None = None) -> float:
    """Return the rate of step 0 <= `step` < `total`: a linear warm-up to lr, then half a cosine towards lr_min.

    The first step after the warm-up has rate lr; lr_min would be reached at step `total`. The warm-up takes at most
    half of the steps. Source: SGDR, Loshchilov and Hutter, arXiv 1608.03983, equation 5.

    decay: instead of the cosine, the rate is constant and falls linearly towards lr_min over the last `decay` steps;
    with 0 it stays constant. The warm-up then takes as many steps as the setting says. Source: warm-up, stable, decay;
    Hu et al., arXiv 2404.06395, section 4.
    """
    if decay is not None:
        risen = min(1.0, (step + 1) / (config.warmup_steps + 1))
        left = min(1.0, (total - step) / (decay + 1))
        return min(config.lr * risen, config.lr_min + (config.lr - config.lr_min) * left)
    warmup = min(config.warmup_steps, total // 2)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (total - warmup)
    rate = config.lr_min + 0.5 * (config.lr - config.lr_min) * (1 + math.cos(math.pi * progress))
    return min(rate, config.lr)  # rounding may push the sum above lr


def position(step: int, steps: int, lengths: Sequence[tuple[int, int]] = ()) -> float:
    """Return where in a schedule of `steps` steps a training is whose length was changed on the way.

    lengths: (steps done, new number of steps), in order. What is left of the schedule at a change is passed through
    evenly in the steps that are left, so that the rate has no jump and ends where it would have ended.
    """
    if not lengths:
        return step
    since, end, at = 0, steps, 0.0
    for done, length in lengths:
        if step < done:
            break
        at += (done - since) * (steps - at) / (end - since)
        since, end = done, length
    return at + (step - since) * (steps - at) / max(1, end - since)


def steps_for(macs_incumbent: int, macs_self: int, images: int, epochs: float, batch_size: int) -> int:
    """Return the training steps of a competitor at equal cost; at least 1.

    The allotment is 3 x macs_incumbent x images x epochs multiply-adds (a backward pass costs two forward
    passes); a step costs 3 x macs_self x batch_size. The quotient is rounded to whole batches in exact arithmetic.
    Equal macs_incumbent and macs_self give equal epochs.

    macs_incumbent, macs_self: forward multiply-adds for one image, of the incumbent and of this network.
    images:                    in the training split.
    Raises UserError if a number is not positive.
    """
    given = {
        "macs_incumbent": macs_incumbent,
        "macs_self": macs_self,
        "images": images,
        "epochs": epochs,
        "batch_size": batch_size,
    }
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"training: {name}={value} is not a positive number; use a finite number above 0")
    exact = Fraction(macs_incumbent * images, macs_self * batch_size) * Fraction(epochs)
    return max(1, round(exact))
