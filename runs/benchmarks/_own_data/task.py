"""What an arm is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.data import ImageSplit, SearchData, eval_batches, load_search_data, load_test_split


@dataclass(frozen=True)
class Task:
    """One arm on one data set. spec: for --data. seconds: the budget; None: next to nothing, to see that it runs."""

    spec: str
    seed: int
    seconds: float | None
    folder: Path
    threads: int


@dataclass(frozen=True)
class Found:
    """score: on the test split, of `main`. facts: more, for the record."""

    score: float
    main: str
    tested: int
    facts: Mapping[str, Any]


def loaded(task: Task) -> tuple[SearchData, ImageSplit]:
    """The data of a task, and its test split."""
    return load_search_data(task.spec, None, task.seed), load_test_split(task.spec, None, task.seed)


def rows_of(data: SearchData, split: ImageSplit) -> Tensor:
    """The examples of a split as rows of numbers [N, F], scaled as a network gets them."""
    return torch.cat([x.flatten(1) for x, _ in eval_batches(split, 500, data.mean, data.std)])
