"""The engine, called as a user calls it, and what its ledger says that it did."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nas
from _equal_cost.outcome import Outcome, Point, added
from _equal_cost.problem import SEED_WIDTH, Problem, augmentation
from morphs import GrowKernel, InsertBlock, Widen, WidenAll
from nas import LedgerView, RunConfig, TrialRecord
from nas.data import Split
from nas.ledger import read_config
from nas.registry.configure import check_config
from nas.registry.registry import SpaceEntry
from nas.run.charge import trial_cost
from nas.train.evaluate import Scores
from search_spaces import Shape, Space, residual


def narrow(shape: Shape, classes: int) -> Space:
    """The engine's space of residual networks, begun at the width that the budgets are counted in."""
    return residual(shape, classes, width=SEED_WIDTH)


def any_move(shape: Shape, classes: int) -> Space:
    """The same seed network with the moves that a residual network may grow by, single layers and whole blocks."""
    moves = (
        (InsertBlock, {"kind": ("single", "basic"), "how": ("scaled",)}),
        (WidenAll, {"factor": (1.25,), "how": ("zero",)}),
        (Widen, {"factor": (1.5, 2), "how": ("zero",)}),
        (GrowKernel, {"max_kernel": (5,)}),
    )
    return replace(narrow(shape, classes), moves=moves)


SPACES = {"narrow": narrow, "any-move": any_move}


def searched(problem: Problem, settings: Mapping[str, Any], folder: Path, space: str = "narrow") -> Outcome:
    """Search with all of the budget, in one worker of one thread, with the batch size and rate that all arms have.

    settings: what else differs from the defaults. folder: of the run, new.
    """
    recipe = {"batch_size": problem.recipe.batch_size, "lr": problem.recipe.lr}
    own = {**settings, "train": {**recipe, **settings.get("train", {})}}
    data = problem.data
    parts = tuple(_arrays(part) for part in (data.train, data.val, problem.test))
    defaults = nas.REGISTRY.spaces["residual"].defaults
    registry = nas.REGISTRY.with_(spaces={space: SpaceEntry(SPACES[space], defaults)})
    began = time.perf_counter()
    run = nas.search(
        space, data=parts, augment=augmentation(data.augment), seed=problem.seed, run=folder, quiet=True,
        workers=1, threads=1, registry=registry, cost=problem.budget,
        **own,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    best, view = run.best, run.view
    config = check_config(read_config(folder).config["config"], registry)
    return Outcome(
        graph=best.network.graph,
        val=Scores({"accuracy": best.scores["val_accuracy"]}, best.scores["val_loss"]),
        cost=_by_kind(view.trials, config, problem),
        seconds=seconds,
        curve=_curve(view, config, problem),
        test=Scores({"accuracy": best.scores["test_accuracy"]}, best.scores["test_loss"]),
    )


def _by_kind(trials: Iterable[TrialRecord], config: RunConfig, problem: Problem) -> dict[str, int]:
    """Multiply-adds of the trials of each kind: the seed network, unchanged parents, children, the final training."""
    jobs = [record.job for record in trials]
    return added(*({str(job.kind): trial_cost(job, config, len(problem.data.val))} for job in jobs))


def _curve(view: LedgerView, config: RunConfig, problem: Problem) -> tuple[Point, ...]:
    """The best validation accuracy so far, after each trial in the order in which they ended."""
    ended = sorted(view.complete, key=lambda record: record.finished or 0.0)
    points: list[Point] = []
    for number, record in enumerate(ended, start=1):
        assert record.result is not None
        accuracy = record.result.scores["val_accuracy"]
        best = accuracy if record.job.final else max([accuracy, *(y for _, _, y in points)])
        spent = sum(_by_kind(ended[:number], config, problem).values())
        points.append((spent, (record.finished or 0.0) - ended[0].started, best))
    return tuple(points)


def _arrays(part: Any) -> tuple[Any, Any]:
    assert isinstance(part, Split)
    return part.pixels.numpy(), part.labels.numpy()
