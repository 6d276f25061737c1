"""Training from fresh weights under the schedule that all rivals share."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import morphs
from _equal_cost.outcome import Outcome, Point, evaluation_cost, step_cost
from _equal_cost.problem import Problem
from morphs import ArchGraph
from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.train import TrainConfig, train
from nas.train.evaluate import evaluate

WARM_UP, DECAY = 0.02, 0.5  # shares of the steps; between them the rate is constant
POINTS = 16  # of a curve


def recipe(problem: Problem, steps: int) -> TrainConfig:
    """The settings of a training of so many steps."""
    return replace(problem.recipe, warmup_steps=round(WARM_UP * steps))


def decay(steps: int) -> int:
    """The last steps, in which the rate falls to zero."""
    return max(1, round(DECAY * steps))


def from_scratch(graph: ArchGraph, problem: Problem, budget: int, purpose: str) -> Outcome:
    """Train `graph` from fresh weights for all of `budget`, and look at the validation split once.

    purpose: part of the seed of weights and batches. Raises UserError if the budget does not pay for a step.
    """
    looking, each = evaluation_cost(graph, len(problem.data.val)), step_cost(graph, problem)
    steps = (budget - looking) // each
    if steps < 1:
        raise UserError(f"{purpose}: the budget does not pay for a step of this network; use a larger one")
    data = problem.data
    module = morphs.init(graph, derive(problem.seed, purpose)).to_torch()
    curve: list[Point] = []
    marks = {round(steps * i / POINTS) for i in range(1, POINTS)}
    began, looked = time.perf_counter(), 0.0

    def look(step: int, _: int, __: float) -> None:
        nonlocal looked
        if step in marks:  # a copy: the module in training keeps its memory layout
            start = time.perf_counter()
            found = evaluate(copy.deepcopy(module), data.val, data).accuracy
            curve.append((step * each, start - began - looked, found))
            looked += time.perf_counter() - start

    train(
        module, data, steps=steps, config=recipe(problem, steps), seed=derive(problem.seed, purpose, "train"),
        on_step=look, decay=decay(steps),
    )  # fmt: skip
    val = evaluate(module, data.val, data)
    seconds = time.perf_counter() - began - looked
    cost = {"train": steps * each, "evaluate": looking}
    curve.append((sum(cost.values()), seconds, val.accuracy))
    return Outcome(graph, val, cost, seconds, tuple(curve), module)
