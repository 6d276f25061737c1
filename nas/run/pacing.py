"""Chooses settings that suit a budget: how often networks grow, how far, and how long each trial trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Any

from nas.config.run_config import RunConfig

# Where a budget trains the seed network for `steps` steps, the best network costs sqrt(steps) / SIZE seed networks:
# twice the network wants twice the steps. Fitted to widths at 1,875 to 5,600 steps; see docs/figures/growing.md.
SIZE = 23.0
MOST_GROWTH = 16.0  # times the seed network's multiply-adds
LEAST_GROWTH = 1.5  # below it no move fits, so the budget goes to the seed network
STEP = 1.6  # about how much a generation grows
GROW_SHARE = 0.15  # of the budget; growing early is better than late, and children that lose cost
LEAST_STRETCH = 40  # steps; after fewer a child is judged by the noise of its first steps
GENERATIONS = 10  # at most
CHILDREN = 1  # trials as short as these choose no better than chance, and each costs


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
    growth = min(MOST_GROWTH, sqrt(steps) / SIZE)
    if growth < LEAST_GROWTH:
        return Pace(0, max(1, round(steps * GROW_SHARE)), 1.0)
    # The incumbents grow from 1 to `growth`, about evenly in proportion: their mean cost is near its square root.
    share = steps * GROW_SHARE / sqrt(growth)
    wanted = min(GENERATIONS, ceil(log(growth) / log(STEP)))
    generations = min(wanted, max(1, int(share / LEAST_STRETCH / (rivals + 1))))
    return Pace(generations, max(1, int(share / (generations * rivals + 1))), growth)


def paced(
    config: RunConfig,
    seed_macs: int,
    images: int,
    cores: int,
    step_seconds: Callable[[int], float],
    spent: float = 0.0,
) -> RunConfig:
    """`config` with settings for its budget or cost, where it does not give them; unchanged if it has neither.

    images: in the training split. cores: that this run may use. step_seconds: measures a training step of the seed
    network with so many threads; called if the budget is a time. spent: seconds of the budget that are gone.
    """
    if config.schedule != "lineage" or (config.cost is None and config.budget is None):
        return config
    given, batch = config.model_fields_set, config.train.batch_size
    free = (
        "generations" not in given
    )  # else the search is that of the paper, with children and a parent to beat
    children = CHILDREN if free and "children" not in given else config.children
    settings = dict(config.policy_settings)
    if free and config.policy == "hill-climb" and settings.get("parent") is None:
        settings["parent"] = False
    competitors = children + (settings.get("parent") is not False)
    threads = config.threads
    if config.cost is not None:
        chosen = pace(config.cost / (3 * seed_macs * batch), competitors)
    else:
        assert config.budget is not None
        if competitors == 1 and config.device == "cpu" and "threads" not in given:
            threads = min((threads, cores), key=step_seconds)
        rounds = ceil(competitors / min(config.workers, competitors))
        chosen = pace(max(0.0, config.budget - spent) / step_seconds(threads), rounds)
    wanted: dict[str, Any] = {
        "generations": chosen.generations,
        "children": children,
        "threads": threads,
        "epochs": chosen.stretch * batch / images,
        "grow_share": _bound(config.budget, spent),
    }
    update = {name: value for name, value in wanted.items() if name not in given}
    if chosen.growth > 1 and "macs" not in config.limits:
        update["limits"] = {**config.limits, "macs": max(seed_macs, int(seed_macs * chosen.growth))}
    return config.model_copy(update={**update, "policy_settings": settings})


def _bound(budget: float | None, spent: float) -> float:
    """A bound, in shares of the budget, for what a slow machine makes of the plan for the seconds that are left."""
    share = min(1.0, 1.5 * GROW_SHARE)
    return share if budget is None else min(1.0, (spent + share * max(0.0, budget - spent)) / budget)
