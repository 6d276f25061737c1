"""Stands in for parts of the engine that are not there yet."""

from __future__ import annotations

from typing import Any

import morphs
import nas.train.loop as loop
from _equal_cost.networks import seed_network
from nas.ledger import LedgerView
from nas.train import TrainConfig, TrainReport
from search_spaces import Space, nash


def train(module: Any, data: Any, *, decay: int, **rest: Any) -> TrainReport:
    """Stands in for nas.train.train with decay=: constant rate, then a line to lr_min over the last steps."""
    before = loop.learning_rate

    def rate(step: int, total: int, config: TrainConfig) -> float:
        warmup = min(config.warmup_steps, total // 2)
        if step < warmup:
            return config.lr * (step + 1) / (warmup + 1)
        left = min(1.0, (total - step) / decay)
        return config.lr_min + (config.lr - config.lr_min) * left

    loop.learning_rate = rate
    try:
        return loop.train(module, data, **rest)
    finally:
        loop.learning_rate = before


def engine_settings(problem: Any) -> dict[str, Any]:
    """Stands in for the engine's cost=: two generations that come near to the budget."""
    macs = morphs.cost(seed_network(8, problem.data.input_shape, problem.classes)).macs
    epochs = problem.budget / (3 * macs * len(problem.data.train))
    recipe = problem.recipe
    return {
        "generations": 2, "children": 2, "moves_per_child": 1, "epochs": epochs / 14, "final_share": 0.6,
        "train": {"lr": recipe.lr, "batch_size": recipe.batch_size},
    }  # fmt: skip


def residual(shape: Any, classes: int, width: int = 32) -> Space:
    """Stands in for search_spaces.residual."""
    return Space(seed_network(width, shape, classes), nash(shape, classes).moves)


def engine_cost(view: LedgerView, problem: Any) -> dict[str, int]:
    """Stands in for the engine's own count: the steps and evaluations of all trials."""
    batch = problem.recipe.batch_size
    results = [(record.job, record.result) for record in view.complete if record.result is not None]
    return {
        "train": sum(3 * result.macs * batch * job.steps for job, result in results),
        "evaluate": sum(result.macs * len(problem.data.val) for _, result in results),
    }
