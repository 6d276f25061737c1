"""Chooses settings that suit a budget: how often networks grow, how far, and how long each trial trains.

The constants come from prototypes at a low learning rate and are not tuned yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

from nas.config.run_config import RunConfig

FINAL_STEPS = 3000  # a network is too large for a budget that trains it for fewer steps than this
MOST_GROWTH = 16.0  # times the seed network's multiply-adds
LEAST_GROWTH = 1.25  # below it no move fits, so the budget goes to the seed network
GROW_SHARE = 0.2  # of the budget; growing early is better than late, and children that lose cost
LEAST_STRETCH = 100  # steps; after fewer a child is judged by the noise of its first steps
GENERATIONS = 10  # at most


@dataclass(frozen=True)
class Pace:
    """generations: 0 for none. stretch: steps of each competitor, at the incumbent's cost. growth: the largest network,
    in multiply-adds of the seed network.
    """

    generations: int
    stretch: int
    growth: float


def pace(steps: float, rivals: int) -> Pace:
    """The pace for a budget of `steps` training steps of the seed network.

    rivals: competitors of a generation that are trained one after the other.
    """
    growth = min(MOST_GROWTH, steps / FINAL_STEPS)
    if growth < LEAST_GROWTH:
        return Pace(0, max(1, round(steps * GROW_SHARE)), 1.0)
    # The incumbents grow from 1 to `growth`, about evenly in proportion: their mean cost is near its square root.
    share = steps * GROW_SHARE / sqrt(growth)
    generations = min(GENERATIONS, max(1, int(share / LEAST_STRETCH / (rivals + 1))))
    return Pace(generations, max(1, int(share / (generations * rivals + 1))), growth)


def paced(
    config: RunConfig, seed_macs: int, images: int, step_seconds: Callable[[], float], spent: float = 0.0
) -> RunConfig:
    """`config` with settings for its budget or cost, where it does not give them; unchanged if it has neither.

    images: in the training split. step_seconds: measures a training step of the seed network; called if the budget is
    a time. spent: seconds of the budget that are gone.
    """
    if config.schedule != "lineage" or (config.cost is None and config.budget is None):
        return config
    batch, competitors = config.train.batch_size, config.children + 1
    if config.cost is not None:
        chosen = pace(config.cost / (3 * seed_macs * batch), competitors)
    else:
        assert config.budget is not None
        left = max(0.0, config.budget - spent)
        chosen = pace(left / step_seconds(), ceil(competitors / min(config.workers, competitors)))
    wanted: dict[str, Any] = {
        "generations": chosen.generations,
        "epochs": chosen.stretch * batch / images,
        "grow_share": _bound(config.budget, spent),
    }
    update = {name: value for name, value in wanted.items() if name not in config.model_fields_set}
    if chosen.growth > 1 and "macs" not in config.limits:
        update["limits"] = {**config.limits, "macs": max(seed_macs, int(seed_macs * chosen.growth))}
    return config.model_copy(update=update)


def _bound(budget: float | None, spent: float) -> float:
    """A bound, in shares of the budget, for what a slow machine makes of the plan for the seconds that are left."""
    share = min(1.0, 1.5 * GROW_SHARE)
    return share if budget is None else min(1.0, (spent + share * max(0.0, budget - spent)) / budget)
