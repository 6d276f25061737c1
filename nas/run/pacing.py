"""Chooses settings that suit a budget: how often networks grow, how far, and how long each trial trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, log, sqrt
from typing import Any

from morphs import Limits
from nas.base.text import plural
from nas.config.run_config import RunConfig
from nas.run.suited import LEAST_STEPS, warmed

# Where a budget trains the seed network for `steps` steps, the best network costs sqrt(steps) / SIZE seed networks:
# twice the network wants twice the steps. Fitted to widths at 1,875 to 5,600 steps; see docs/figures/growing.md.
SIZE = 23.0
MOST_GROWTH = 16.0  # times the seed network's multiply-adds
LEAST_GROWTH = 1.5  # below it no move fits, so the budget goes to the seed network
STEP = 1.6  # about how much a generation grows
GROW_SHARE = 0.15  # of the budget; growing early is better than late, and children that lose cost
LEAST_STRETCH = LEAST_STEPS
GENERATIONS = 10  # at most
CHILDREN = 1  # trials as short as these choose no better than chance, and each costs
# Where few examples end the training before the budget does, the rest of the budget compares more children.
MOST_CHILDREN = 6
SPARED = 0.4  # of the budget, at most, is for that
TRIAL_SECONDS = 1.0  # of a trial, besides its training


@dataclass(frozen=True)
class Pace:
    """generations: 0 for none. stretch: steps of each competitor, at the incumbent's cost. growth: the largest network,
    in multiply-adds of the seed network.
    """

    generations: int
    stretch: int
    growth: float
    children: int = CHILDREN


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


def pace_of_few(longest: float, steps: float, trials: float) -> Pace:
    """The pace where a network is to train for `longest` steps at most, and a budget has `steps`, which are more.

    trials: how many the budget has the time to store and report. The smaller networks are part of the comparison.
    """
    chosen = pace(longest, CHILDREN)
    growth = max(2.0, chosen.growth)
    share = longest * GROW_SHARE / sqrt(growth)
    wanted = int(min(GENERATIONS, ceil(log(growth) / log(STEP)), share / LEAST_STRETCH - 1, trials / 2))
    if wanted < 1:
        return Pace(0, max(1, round(longest * GROW_SHARE)), 1.0)
    stretch = share / (wanted + 1)
    left = max(0.0, steps - longest * growth)
    rivals = min(left * SPARED / (wanted * stretch * sqrt(growth)), trials / wanted)
    return Pace(wanted, max(1, int(stretch)), growth, max(1, min(MOST_CHILDREN, int(rivals) - 1)))


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
    alone = free and config.policy == "hill-climb" and settings.get("parent") is None
    competitors = children + (settings.get("parent") is not False and not alone)
    threads = config.threads
    if config.cost is not None:
        steps, rounds, trials = config.cost / (3 * seed_macs * batch), competitors, inf
    else:
        assert config.budget is not None
        if competitors == 1 and config.device == "cpu" and "threads" not in given:
            threads = min((threads, cores), key=step_seconds)
        rounds, left = ceil(competitors / min(config.workers, competitors)), max(0.0, config.budget - spent)
        steps, trials = left / step_seconds(threads), SPARED * left / TRIAL_SECONDS
    longest = inf if config.most_epochs is None else config.most_epochs * images / batch
    few = steps > longest
    chosen = pace_of_few(longest, steps, trials) if few else pace(steps, rounds)
    if alone:  # else a child replaces its parent only if it is better
        settings["parent"] = chosen.children > 1
    if few and free and "children" not in given:
        children, threads = chosen.children, config.threads if chosen.children > 1 else threads
    wanted: dict[str, Any] = {
        "generations": chosen.generations,
        "children": children,
        "threads": threads,
        "epochs": chosen.stretch * batch / images,
        "grow_share": _bound(config.budget, spent, 1 - config.final_share if few else 1.5 * GROW_SHARE),
    }
    update = {name: value for name, value in wanted.items() if name not in given}
    if chosen.growth > 1 and "macs" not in config.limits:
        update["limits"] = {**config.limits, "macs": max(seed_macs, int(seed_macs * chosen.growth))}
    return warmed(config.model_copy(update={**update, "policy_settings": settings}), min(steps, longest))


def pace_told(config: RunConfig, images: int, seed_macs: int, seconds: float | None) -> Sequence[str]:
    """What a budget or cost and the examples decided, a sentence each. seconds: of a step of the seed network."""
    if config.schedule != "lineage" or (config.cost is None and config.budget is None):
        return ()
    said: list[str] = []
    if config.most_epochs is not None and "most_epochs" in config.fitted:
        batch = config.train.batch_size
        steps = config.most_epochs * images / batch
        few = config.cost is not None and 3 * seed_macs * batch * steps < config.cost
        if config.budget is not None and seconds is not None:
            few = steps * seconds < config.budget
        if few:
            said.append(
                f"training: {config.most_epochs:g} epochs at most, since more fit {plural(images, 'example')} too "
                "closely, so the search may end before its budget; --most-epochs sets it"
            )
    if config.generations == 0 and "generations" in config.fitted:
        said.append("growth: none, the training is too short for it; --generations N asks for it")
    elif config.generations:
        said.append(
            f"growth: {plural(config.generations, 'generation')} of {plural(config.children, 'child')}, "
            f"{config.epochs:.3g} epochs each; --generations, --children and --epochs set them"
        )
    return said


def limits_told(config: RunConfig, own: Limits) -> Sequence[str]:
    """The limits that nobody gave, in a sentence: those of the space (`own`) and of the budget."""
    found = {
        name: value for name, value in vars(own).items() if value is not None and name not in config.limits
    }
    if "limits" in config.fitted:
        found |= config.limits
    if not found:
        return ()
    texts = ", ".join(f"{name} {value:,}" for name, value in found.items())
    return (
        f"limits: {texts}, which the space and the budget bring; --limit {next(iter(found))}=N sets another",
    )


def _bound(budget: float | None, spent: float, share: float) -> float:
    """A bound, in shares of the budget, for what a slow machine makes of the plan for the seconds that are left."""
    return share if budget is None else min(1.0, (spent + share * max(0.0, budget - spent)) / budget)
