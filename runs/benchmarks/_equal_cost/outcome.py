"""What an arm comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

import morphs
from _equal_cost.problem import Problem
from morphs import ArchGraph
from nas.train.evaluate import Scores

Point = tuple[
    float, float, float
]  # (multiply-adds, seconds, validation accuracy), counted from the arm's start


@dataclass(frozen=True)
class Outcome:
    """The network that an arm hands out.

    graph: None if it is not ours. module: with its trained weights; None if the arm has read the test split itself.
    test: what it read there. cost: multiply-adds by purpose. seconds: wall time, without what only the curve needs.
    """

    graph: ArchGraph | None
    val: Scores
    cost: Mapping[str, int]
    seconds: float
    curve: tuple[Point, ...]
    module: nn.Module | None = None
    test: Scores | None = None

    @property
    def spent(self) -> int:
        """Multiply-adds of everything."""
        return sum(self.cost.values())


def step_cost(graph: ArchGraph, problem: Problem) -> int:
    """Multiply-adds of one training step: a backward pass costs two forward passes."""
    return 3 * morphs.cost(graph).macs * problem.recipe.batch_size


def evaluation_cost(graph: ArchGraph, images: int) -> int:
    """Multiply-adds of a look at so many images."""
    return morphs.cost(graph).macs * images


def added(*costs: Mapping[str, int]) -> dict[str, int]:
    """Costs by purpose, summed."""
    purposes = dict.fromkeys(purpose for cost in costs for purpose in cost)
    return {purpose: sum(cost.get(purpose, 0) for cost in costs) for purpose in purposes}
