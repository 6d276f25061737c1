"""What the simplest methods make of the same splits, for comparison: the commonest answer, and a linear model.

Legend: N examples, F features, K outputs. All is computed in float64 on the CPU, so that it is the same each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from nas.data.batches import eval_batches
from nas.data.task import Task
from nas.data.types import ImageSplit, SearchData, StreamSplit, ValueSplit
from nas.ledger.scores import LINEAR, SIMPLE

EXAMPLES, STREAMED = 5000, 1000  # that a model is fitted to; fewer where each is read from a file
FEATURES = 400  # images with more pixels are made smaller by whole factors
WORDS = 1000  # of the tokens, the commonest ones, whose counts are what a linear model reads
RIDGE = 1.0  # times half the squares of the weights, beside the sum of the losses: as scikit-learn's default
STEPS, MEMORY = 100, 10  # of L-BFGS
TASKS = (
    "classification",
    "balanced",
    "multi-label",
    "regression",
)  # not one's own, whose targets may mean anything


@dataclass(frozen=True)
class Linear:
    """A linear model: outputs (x − mean) / std · weights + offset. weights [F, K]."""

    mean: Tensor
    std: Tensor
    weights: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [N, K] for features [N, F]."""
        return (x - self.mean) / self.std @ self.weights + self.offset


def baseline_scores(data: SearchData, splits: Mapping[str, ImageSplit]) -> dict[str, float]:
    """The task's own score of each baseline on each split, as "BASELINE_SPLIT": `simple`, the majority class, the
    commonest labels or the mean, and `linear`, logistic or ridge regression, fitted to the training split. {} for a
    task of one's own, whose targets may mean anything. Of tokens the linear model reads how often each occurs.
    """
    task = data.task
    if task.name not in TASKS:
        return {}
    x, labels = _features(data, data.train), data.train.labels
    models = {SIMPLE: _simple(x, labels, task), LINEAR: _linear(x, labels[_chosen(data.train)], task)}
    found: dict[str, float] = {}
    for name, split in splits.items():
        inputs, truth = _features(data, split), split.labels[_chosen(split)]
        for model, predict in models.items():
            value = float(task.scores[0].measure(predict(inputs), truth))
            if isfinite(value):
                found[f"{model}_{name}"] = value
    return found


def _chosen(split: ImageSplit) -> Tensor:
    """An even choice of the examples of a split, all of a small one."""
    most = STREAMED if isinstance(split, StreamSplit) else EXAMPLES
    count = len(split)
    return torch.linspace(0, count - 1, min(most, count), dtype=torch.float64).round().long()


def _features(data: SearchData, split: ImageSplit) -> Tensor:
    """The chosen examples as rows [N, F], images made smaller to FEATURES, tokens counted."""
    part = split.subset(_chosen(split))
    if isinstance(part, ValueSplit) and data.tokens is not None:
        return _counts(part.inputs, _commonest(data, data.tokens))
    rows = [x.double() for x, _ in eval_batches(part, 256, data.mean, data.std)]
    x = torch.cat(rows)
    factor = 1
    while x.ndim == 4 and prod(x.shape[1:]) > FEATURES * factor**2 and min(x.shape[2:]) >= 2 * (factor + 1):
        factor += 1
    return (avg_pool2d(x, factor) if factor > 1 else x).flatten(1)


def _commonest(data: SearchData, tokens: int) -> Tensor:
    """The WORDS tokens that most occur in the training split, ascending."""
    assert isinstance(data.train, ValueSplit)
    often = data.train.inputs.flatten().bincount(minlength=tokens)
    return often.argsort(descending=True, stable=True)[:WORDS].sort().values


def _counts(inputs: Tensor, words: Tensor) -> Tensor:
    """How often each of `words` occurs in each example, [N, F]: a bag of words."""
    places = torch.searchsorted(words, inputs).clamp(max=len(words) - 1)
    known = words[places] == inputs
    counts = torch.zeros(len(inputs), len(words), dtype=torch.float64)
    return counts.scatter_add_(1, places, known.double())


def _targets(labels: Tensor, task: Task) -> Tensor:
    """What a model is to put out, [N, K]: 1 for the class, 1 and -1 for flags, values as the task scales them."""
    if task.targets == "classes":
        return one_hot(labels, len(task.outputs)).double()
    if task.targets == "flags":
        return 2 * labels.double() - 1
    centre, scale = (torch.tensor(task.facts[name]).double() for name in ("centre", "scale"))
    return (labels.double() - centre) / scale


def _simple(x: Tensor, labels: Tensor, task: Task) -> Linear:
    """The mean of the targets, for all: the commonest class, the labels that most have."""
    answer = _targets(labels, task).mean(0)
    none = torch.zeros(x.shape[1], dtype=x.dtype)
    return Linear(none, none + 1, none[:, None].expand(-1, len(answer)), answer)


def _linear(x: Tensor, labels: Tensor, task: Task) -> Linear:
    """Ridge regression in closed form, or logistic regression by L-BFGS."""
    mean, spread = x.mean(0), x.std(0, correction=0)
    std = spread.where(spread > 1e-6 * spread.max(), torch.ones_like(spread))
    z, y = (x - mean) / std, _targets(labels, task)
    if task.targets == "values":
        gram = z.T @ z + RIDGE * torch.eye(z.shape[1], dtype=z.dtype)
        return Linear(mean, std, torch.linalg.solve(gram, z.T @ (y - y.mean(0))), y.mean(0))
    f, k = z.shape[1], y.shape[1]

    def loss(flat: Tensor) -> Tensor:
        weights, offset = flat[: f * k].view(f, k), flat[f * k :]
        return (
            task.losses(z @ weights + offset, labels).mean() + RIDGE / (2 * len(z)) * weights.square().sum()
        )

    found = minimised(loss, torch.zeros(f * k + k, dtype=z.dtype))
    return Linear(mean, std, found[: f * k].view(f, k), found[f * k :])


def minimised(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where a smooth convex `loss` of a vector is least, by L-BFGS with halved steps. Source: Nocedal and Wright,
    Numerical Optimization, algorithm 7.5. (Constructing torch's own would import its compiler.)
    """
    at = start
    value, gradient = _derived(loss, at)
    pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=MEMORY)
    for _ in range(STEPS):
        direction = -_twisted(gradient, pairs)
        slope, length = float(direction @ gradient), 1.0
        while True:
            new, (new_value, new_gradient) = at + length * direction, _derived(loss, at + length * direction)
            if new_value <= value + 1e-4 * length * slope or length < 1e-6:
                break
            length /= 2
        if length < 1e-6 or float(new_gradient.abs().max()) < 1e-6:
            return new if new_value <= value else at
        change = new_gradient - gradient
        if float(change @ (new - at)) > 1e-12:
            pairs.append((new - at, change))
        at, value, gradient = new, new_value, new_gradient
    return at


def _derived(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[float, Tensor]:
    point = at.clone().requires_grad_()
    value = loss(point)
    (gradient,) = torch.autograd.grad(value, point)
    return float(value.detach()), gradient


def _twisted(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The gradient times the inverse Hessian, as steps and changes of the gradient tell of it."""
    result, factors = gradient.clone(), list[Tensor]()
    for step, change in reversed(pairs):
        factors.append(step @ result / (step @ change))
        result = result - factors[-1] * change
    if pairs:
        step, change = pairs[-1]
        result = result * (step @ change) / (change @ change)
    else:
        result = result / max(1.0, float(gradient.norm()))
    for (step, change), factor in zip(pairs, reversed(factors), strict=True):
        result = result + step * (factor - change @ result / (step @ change))
    return result
