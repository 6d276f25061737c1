"""Measures how long a training step takes on this machine, and refuses budgets that are too small for a search."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from morphs import ArchGraph, init
from nas.base import machine
from nas.base.errors import UserError
from nas.data import SearchData
from nas.run.plan import Plan, seed_job
from nas.run.speed import closing_seconds
from nas.train import TrainConfig, train

STEPS, MOST_SECONDS = 5, 2.0  # of a measurement


def seconds_per_step(
    graph: ArchGraph,
    data: SearchData,
    config: TrainConfig,
    device: str = "cpu",
    threads: int = 1,
    steps: int | None = None,
) -> float:
    """Mean wall seconds of a training step of `graph` with `threads` threads, over `steps` steps.

    steps: None means five, or fewer that take two seconds in all, and at least one.
    """
    with machine.threads(threads):
        module = init(graph).to_torch()
        first = _timed(module, data, 1, config, device)
        steps = steps or max(1, min(STEPS, int(MOST_SECONDS / first)))
        return _timed(module, data, steps, config, device) / steps


def _timed(module: nn.Module, data: SearchData, steps: int, config: TrainConfig, device: str) -> float:
    start = time.perf_counter()
    train(module, data, steps=steps, config=config, seed=0, device=device)
    return time.perf_counter() - start


def check_budget(
    plan: Plan, seconds: Callable[[int], float], spent: float, startup: float | None = None
) -> None:
    """Raise UserError when what is left of the budget is too small for the seed network's training and one generation.

    spent: seconds so far: of imports, and of reading the data. startup: of imports alone; None: all of them.
    """
    config = plan.config
    if config.budget is None:
        return
    each = seed_job(plan).steps * seconds(config.threads)
    rounds = 1 + (0 if config.generations == 0 else plan.rounds)
    share = 1 - config.final_share if config.grow_share is None else config.grow_share
    closing = closing_seconds(spent if startup is None else startup, config.budget)
    have = min(config.budget * share, config.budget - closing) - spent
    need = each * rounds
    if have <= 0:
        raise UserError(
            f"search: a budget of {config.budget:.0f} s is spent by imports and reading the data ({spent:.0f} s) and "
            f"by what is kept for the end ({closing:.0f} s), before anything is trained: raise --budget"
        )
    if need > have:
        raise UserError(
            f"search: a budget of {config.budget:.0f} s leaves {max(0.0, have):.0f} s for the search; the seed network "
            f"and one generation take about {need:.0f} s: raise --budget, or lower --epochs or --children"
        )
