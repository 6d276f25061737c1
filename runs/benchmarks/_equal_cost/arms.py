"""The ways to spend one training cost. Each arm has variants; each variant, seed, data set and budget is one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import morphs
from _equal_cost import autokeras_arm, engine, tpe_arm
from _equal_cost.networks import resnet9, seed_network
from _equal_cost.outcome import Outcome
from _equal_cost.problem import SEED_WIDTH, Problem
from _equal_cost.scratch import from_scratch

Record = Mapping[str, Any]
WIDTHS = {"x1.5": 12, "x2": 16, "x3": 24, "x4": 32}
HAND_WIDTHS = {"w3": 3, "w4": 4, "w6": 6, "w8": 8}


@dataclass(frozen=True)
class Task:
    """One run of an arm. found: the record of the engine with this data set, budget and seed, if `after` asks for it.

    folder: a new one for what the arm keeps on disk while it works.
    """

    problem: Problem
    variant: str
    folder: Path
    found: Record | None = None


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget.

    run: does one variant. variants: each has all of the budget. after: whether the engine's run comes first. lacks: why
    it can't be done here; empty if it can. ablation: an engine without one of its parts, run only if it is named.
    """

    name: str
    what: str
    run: Callable[[Task], Outcome]
    variants: Sequence[str] = ("",)
    after: bool = False
    lacks: Callable[[], str] = field(default=lambda: "")
    ablation: bool = False


def _engine(name: str, what: str, *, ablation: bool = False, space: str = "narrow", **settings: Any) -> Arm:
    def run(task: Task) -> Outcome:
        return engine.searched(task.problem, settings, task.folder, space)

    return Arm(name, what, run, ablation=ablation)


def _seed(width: int, task: Task) -> Outcome:
    graph = seed_network(width, task.problem.data.input_shape, task.problem.classes)
    return from_scratch(graph, task.problem, task.problem.budget, f"seed {width}")


def _hand(task: Task) -> Outcome:
    graph = resnet9(HAND_WIDTHS[task.variant], task.problem.data.input_shape, task.problem.classes)
    return from_scratch(graph, task.problem, task.problem.budget, f"hand {task.variant}")


def _afresh(task: Task) -> Outcome:
    assert task.found is not None
    graph = morphs.parse_graph(task.found["graph"])
    return from_scratch(graph, task.problem, task.problem.budget, "afresh")


def _autokeras(task: Task) -> Outcome:
    assert task.found is not None
    return autokeras_arm.searched(task.problem, task.found["seconds"], task.folder)


ARMS = (
    _engine("engine", "`nas.search` as a user would type it"),
    Arm("seed", "the seed network for all of the budget", lambda task: _seed(SEED_WIDTH, task)),
    Arm(
        "sizes", "the seed network 1.5, 2, 3, 4 times as wide, from scratch, each for all of the budget",
        lambda task: _seed(WIDTHS[task.variant], task), tuple(WIDTHS),
    ),
    Arm("afresh", "the network that the engine found, from scratch", _afresh, after=True),
    Arm("hand", "a ResNet-9 in four widths, from scratch, each for all of the budget", _hand, tuple(HAND_WIDTHS)),
    _engine("no-inheritance", "the engine's proposals, every child from scratch", weights="fresh"),
    _engine("random", "random moves of all kinds with inheritance, same schedule and limits", space="any-move"),
    Arm(
        "optuna", "TPE with a median pruner over a residual network, from scratch",
        lambda task: tpe_arm.tuned(task.problem, tpe_arm.CHOSEN),
    ),
    Arm(
        "autokeras", "AutoKeras, for the engine's wall time", _autokeras, after=True,
        lacks=autokeras_arm.lacks,
    ),
    _engine("restarts", "a cosine and a new optimizer for each trial", ablation=True, schedule="restarts"),
    _engine("no-average", "children judged by their last weights", ablation=True, train={"average": 0.0}),
    _engine("final-restart", "the final network from scratch", ablation=True, final="restart"),
    _engine("three-children", "three children in each generation", ablation=True, children=3),
    _engine(
        "parent", "two children and the unchanged parent", ablation=True, children=2, policy_settings={"parent": True}
    ),
    _engine("late", "growth in the first third", ablation=True, grow_share=0.35, epochs=1.0),
)  # fmt: skip
BY_NAME: Mapping[str, Arm] = {arm.name: arm for arm in ARMS}
ENGINE = ARMS[0].name
