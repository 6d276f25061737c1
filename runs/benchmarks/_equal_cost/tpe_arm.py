"""Optuna as one would use it: TPE and a median pruner over a family of residual networks, every trial from scratch.

The search gets `share` of the budget. A trial may cost a fixed part of that; it is looked at on some validation images
on its way, and stopped there if it is below the median. What a stopped trial leaves goes to more trials. The best
architecture is then trained from scratch with what is left, and the better of that network and of the trial's own is
handed out. Everything is charged.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import optuna
import torch
from torch import nn

import morphs
from _equal_cost.networks import Family
from _equal_cost.outcome import Outcome, Point, added, evaluation_cost, step_cost
from _equal_cost.problem import Problem
from _equal_cost.scratch import decay, from_scratch, recipe
from morphs import ArchGraph
from nas.base.errors import UserError
from nas.base.seeds import derive
from nas.train import train
from nas.train.evaluate import Scores, evaluate

LOOKS = (0.25, 0.5, 0.75)  # shares of a trial's steps after which it may be stopped
LOOK_SHARE = 0.2  # of the validation images, for such a look
MOST_ASKED = 1000


@dataclass(frozen=True)
class Protocol:
    """trials: full ones that the search's share of the budget pays for. share: of the budget; 1: no retraining."""

    trials: int
    share: float


# Validation accuracy on CIFAR-10, small budget, seeds 100 and 101: 58.4 and 55.7 %. With half of the budget for the
# search: 56.6 and 54.6; half for eight trials: 56.6 (seed 100); all for four, without retraining: 48.0 (seed 100).
CHOSEN = Protocol(trials=4, share=0.25)


@dataclass(frozen=True)
class _Tried:
    """One trial. module: None if it was stopped."""

    cost: dict[str, int]
    val: Scores | None = None
    module: nn.Module | None = None


def tuned(problem: Problem, protocol: Protocol) -> Outcome:
    """Search, and train the best architecture. Raises UserError if no trial is affordable."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=derive(problem.seed, "optuna") % 2**32, n_startup_trials=4),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    began = time.perf_counter()
    for_search = int(protocol.share * problem.budget)
    each = for_search // protocol.trials
    cost: dict[str, int] = {}
    best: tuple[Scores, nn.Module, ArchGraph] | None = None
    curve: list[Point] = []
    for number in range(MOST_ASKED):
        if sum(cost.values()) + each > for_search:
            break
        trial = study.ask()
        graph = _proposed(trial).graph(problem.data.input_shape, problem.classes)
        tried = _try(trial, graph, problem, each, f"optuna {number}")
        cost = added(cost, tried.cost)
        if tried.val is None or tried.module is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        study.tell(trial, tried.val.accuracy)
        if best is None or tried.val.accuracy > best[0].accuracy:
            best = tried.val, tried.module, graph
        curve.append((sum(cost.values()), time.perf_counter() - began, best[0].accuracy))
    if best is None:
        raise UserError("optuna: no network of its family is affordable; use a larger budget")
    val, module, graph = best
    own = Outcome(graph, val, cost, time.perf_counter() - began, tuple(curve), module)
    return own if protocol.share == 1 else _better(own, graph, problem)


def _better(own: Outcome, graph: ArchGraph, problem: Problem) -> Outcome:
    """The better of a trial's network and of the same network trained with what is left, at the cost of both."""
    final = from_scratch(graph, problem, problem.budget - own.spent, "optuna final")
    renamed = {f"final {purpose}": value for purpose, value in final.cost.items()}
    curve = [(own.spent + spent, own.seconds + seconds, y) for spent, seconds, y in final.curve]
    chosen = final if final.val.accuracy >= own.val.accuracy else own
    return replace(
        chosen, cost=added(own.cost, renamed), seconds=own.seconds + final.seconds, curve=(*own.curve, *curve)
    )


def _proposed(trial: optuna.Trial) -> Family:
    return Family(
        width=trial.suggest_categorical("width", (4, 6, 8, 12, 16)),
        blocks=tuple(trial.suggest_int(f"blocks {stage}", 0, 2) for stage in (1, 2, 3)),
        kernel=trial.suggest_categorical("kernel", (3, 5)),
        shortcuts=trial.suggest_categorical("shortcuts", (True, False)),
    )


def _try(trial: optuna.Trial, graph: ArchGraph, problem: Problem, allotment: int, purpose: str) -> _Tried:
    """Train one network within its allotment, in parts, between which the pruner may stop it."""
    data = problem.data
    some = data.val.subset(torch.arange(max(1, round(LOOK_SHARE * len(data.val)))))
    looking, judging = evaluation_cost(graph, len(some)), evaluation_cost(graph, len(data.val))
    each = step_cost(graph, problem)
    steps = (allotment - len(LOOKS) * looking - judging) // each
    if steps <= len(LOOKS):
        return _Tried({})  # larger than the allotment trains: as bad as stopped at once
    module = morphs.init(graph, derive(problem.seed, purpose)).to_torch()
    paused, spent = None, {"train": 0, "evaluate": 0}
    for share in (*LOOKS, 1.0):
        stop, before = round(share * steps), paused.step if paused else 0
        paused = train(
            module, data, steps=steps, config=recipe(problem, steps), decay=decay(steps),
            seed=derive(problem.seed, purpose, "train"), since=paused, until=stop,
        ).paused  # fmt: skip
        spent["train"] += (stop - before) * each
        if share < 1:
            spent["evaluate"] += looking
            trial.report(evaluate(module, some, data).accuracy, stop)
            if trial.should_prune():
                return _Tried(spent)
    spent["evaluate"] += judging
    return _Tried(spent, evaluate(module, data.val, data), module)
