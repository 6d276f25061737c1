"""The task: what a network is to put out, the loss it trains on and the scores it is judged by.

Legend: N examples, K outputs. Targets are int64 [N] of class numbers, or float32 [N, K] of flags (0 or 1) or values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nas.base.errors import DataError, UserError
from nas.base.user_code import resolve_named, where_raised
from nas.data import measures
from nas.ledger.scores import criterion

Targets = Literal["classes", "flags", "values"]
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs [N, K], targets) -> [N]
Measure = Callable[[Tensor, Tensor], float]  # of all N examples
Fused = Callable[[Tensor, Tensor, float, str], Tensor]


@dataclass(frozen=True)
class Score:
    """A score of the outputs [N, K] for all the targets of a split. lower: whether a lower value is better."""

    name: str
    measure: Measure
    lower: bool = False

    @property
    def criterion(self) -> str:
        """The name with its direction, as the ledger keeps it."""
        return criterion(self.name, self.lower)


@dataclass(frozen=True, eq=False)
class Task:
    """Outputs, targets, loss, scores with their direction, and which of them selects.

    loss: of each example [N], given the outputs [N, K] and the targets. scores: the first is the task's own, by which
    trials are ranked and which is shown first. select: the name of the score that selects, or "loss"; "": the first.
    outputs: their names; (): those of the data. targets: "classes" (int64 [N]), "flags" (float32 [N, K], 0 or 1) or
    "values" (float32 [N, K]). name: as `--task` names it. facts: numbers that were fitted to the training targets,
    such as the weights of the classes. fused: the loss with label smoothing and torch's reduction, where there is one.
    """

    targets: Targets
    loss: Loss
    scores: tuple[Score, ...]
    outputs: tuple[str, ...] = ()
    select: str = ""
    name: str = ""
    facts: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    fused: Fused | None = None

    @property
    def main(self) -> str:
        """The criterion of the first score."""
        return self.scores[0].criterion

    def criterion(self, name: str | None) -> str:
        """The criterion of the score called `name`; None: the one that selects. Raises UserError."""
        known = {**{score.name: score.criterion for score in self.scores}, "loss": "loss"}
        wanted = name or self.select or self.scores[0].name
        if wanted in known.values():  # as a run keeps it
            return wanted
        if wanted not in known:
            raise UserError(f"select: {self.name} has no score {wanted}; choose one of {', '.join(known)}")
        return known[wanted]

    def training_loss(self, out: Tensor, y: Tensor, smoothing: float) -> Tensor:
        """The mean loss of a batch, with label smoothing where the task knows it."""
        return self.losses(out, y).mean() if self.fused is None else self.fused(out, y, smoothing, "mean")

    def mean_loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The mean loss of a batch."""
        return self.training_loss(out, y, 0.0)

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        """The loss of each example [N]. Raises UserError if a task of one's own returns another shape."""
        each = self.loss(out, y)
        if each.shape != (len(y),):
            raise UserError(
                f"task {self.name}: its loss has the shape {list(each.shape)} for {len(y)} examples; return one "
                "number for each, [N]"
            )
        return each

    def total_loss(self, out: Tensor, y: Tensor) -> Tensor:
        """The sum of the losses of a batch."""
        return self.losses(out, y).sum() if self.fused is None else self.fused(out, y, 0.0, "sum")

    def as_targets(self, out: Tensor) -> Tensor:
        """What a teacher's outputs [N, K] tell a pupil: probabilities of classes or flags, or the outputs."""
        if self.targets == "classes":
            return out.softmax(dim=1)
        return out.sigmoid() if self.targets == "flags" else out

    def imitation_loss(self, out: Tensor, told: Tensor) -> Tensor:
        """The mean loss against `as_targets` of a teacher's outputs."""
        if self.targets == "classes":
            return cross_entropy(out, told)
        if self.targets == "flags":
            return binary_cross_entropy_with_logits(out, told)
        return (out - told).square().mean()

    def hits(self, out: Tensor, y: Tensor) -> Tensor:
        """Whether each example's largest output is its class [N]; False where there are no classes."""
        if self.targets == "classes":
            return out.argmax(dim=1) == y
        return torch.zeros(len(y), dtype=torch.bool, device=y.device)

    def described(self) -> dict[str, Any]:
        """The task as JSON values, for the record of a run."""
        return {
            "name": self.name,
            "targets": self.targets,
            "outputs": list(self.outputs),
            "scores": [score.criterion for score in self.scores],
            "select": self.criterion(None),
            "facts": {name: list(values) for name, values in self.facts.items()},
        }


# -- ours --------------------------------------------------------------------------------------------


def classification(outputs: tuple[str, ...]) -> Task:
    """One of K classes: cross-entropy, accuracy."""
    return Task(
        "classes",
        partial(cross_entropy, reduction="none"),
        (Score("accuracy", measures.accuracy),),
        outputs,
        name="classification",
        fused=_cross_entropy,
    )


def balanced(outputs: tuple[str, ...], labels: Tensor) -> Task:
    """One of K classes of unequal size that count alike: an example weighs N / (K · the number of its class)."""
    counts = labels.bincount(minlength=len(outputs)).clamp(min=1).double()
    weights = tuple(cast("list[float]", (len(labels) / (len(outputs) * counts)).tolist()))
    return replace(
        classification(outputs),
        loss=partial(_weighted, weights),
        scores=(Score("balanced_accuracy", measures.balanced_accuracy), Score("accuracy", measures.accuracy)),
        name="balanced",
        facts={"class_weights": weights},
        fused=partial(_weighted_cross_entropy, weights),
    )


def multi_label(outputs: tuple[str, ...]) -> Task:
    """Any of K labels at once: cross-entropy of each label, F1 over all labels at a probability of 1/2."""
    return Task(
        "flags",
        _label_loss,
        (Score("f1", measures.f1), Score("exact_match", measures.exact_match)),
        outputs,
        name="multi-label",
    )


def regression(outputs: tuple[str, ...], values: Tensor) -> Task:
    """K numbers: the mean square of the errors in standard deviations of the training targets; RMSE, MAE and R² of the
    targets themselves.
    """
    known = values.double()
    spread = known.std(0, correction=0)
    centre = tuple(cast("list[float]", known.mean(0).tolist()))
    scale = tuple(cast("list[float]", torch.where(spread > 0, spread, torch.ones_like(spread)).tolist()))
    fit = measures.Fit(centre, scale)
    return Task(
        "values",
        partial(_square, fit),
        (
            Score("rmse", partial(measures.rmse, fit), lower=True),
            Score("mae", partial(measures.mae, fit), lower=True),
            Score("r2", partial(measures.r2, fit)),
        ),
        outputs,
        name="regression",
        facts={"centre": centre, "scale": scale},
    )


def _cross_entropy(out: Tensor, y: Tensor, smoothing: float, reduction: str) -> Tensor:
    return cross_entropy(out, y, reduction=reduction, label_smoothing=smoothing)


def _weighted(weights: tuple[float, ...], out: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(out, y, weight=out.new_tensor(weights), reduction="none")


def _weighted_cross_entropy(
    weights: tuple[float, ...], out: Tensor, y: Tensor, smoothing: float, reduction: str
) -> Tensor:
    weight = out.new_tensor(weights)
    return cross_entropy(out, y, weight=weight, reduction=reduction, label_smoothing=smoothing)


def _label_loss(out: Tensor, y: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(out, y, reduction="none").mean(1)


def _square(fit: measures.Fit, out: Tensor, y: Tensor) -> Tensor:
    return (out - fit.standardised(y).to(out.dtype)).square().mean(1)


# -- which one ---------------------------------------------------------------------------------------


def suggested(targets: Tensor) -> str:
    """The name of the task that targets are for: whole numbers are classes, a 0/1 matrix is labels, else values."""
    if targets.dtype == torch.int64:
        return "classification"
    flags = targets.shape[1] > 1 and bool(((targets == 0) | (targets == 1)).all())
    return "multi-label" if flags else "regression"


def as_asked(targets: Tensor, name: str | None, where: str) -> Tensor:
    """Targets in the form that the task `name` takes: class numbers of whole floats or of a matrix with a single 1 in
    each row, values of whole numbers. None and a task of one's own take them as they are. Raises DataError.
    """
    if name in ("classification", "balanced") and targets.dtype != torch.int64:
        if targets.shape[1] > 1 and suggested(targets) == "multi-label" and bool((targets.sum(1) == 1).all()):
            return targets.argmax(1)
        whole = (
            targets.shape[1] == 1 and bool((targets == targets.round()).all()) and bool((targets >= 0).all())
        )
        if not whole:
            raise DataError(
                f"{where}: the targets are not class numbers, as --task {name} needs; give integers 0 … K-1"
            )
        return targets[:, 0].long()
    if name == "regression" and targets.dtype == torch.int64:
        return targets.float()[:, None]
    if name == "multi-label" and (targets.dtype == torch.int64 or suggested(targets) != "multi-label"):
        raise DataError(
            f"{where}: the targets are not labels, as --task multi-label needs; give a matrix of 0 and 1, [N, K]"
        )
    return targets


def task_of(name: str | None, targets: Tensor, outputs: tuple[str, ...]) -> Task:
    """The task called `name` (one of ours, package.module:function, or None: as the targets suggest), fitted to the
    training `targets`. outputs: the names of classes, labels or values. Raises UserError.

    A function is called with the training targets and returns a Task. Only names that a command gives may reach here.
    """
    match name or suggested(targets):
        case "classification":
            return classification(outputs)
        case "balanced":
            return balanced(outputs, targets)
        case "multi-label":
            return multi_label(outputs)
        case "regression":
            return regression(outputs, targets)
        case own:
            return _own(own, targets, outputs)


def _own(spec: str, targets: Tensor, outputs: tuple[str, ...]) -> Task:
    made: Any = resolve_named(spec, "--task", UserError)
    try:
        task: Any = made(targets.clone())
    except (Exception, SystemExit) as error:
        raise UserError(f"--task {spec} failed ({where_raised(error)}); fix it") from error
    if not isinstance(task, Task) or not task.scores:
        raise UserError(f"--task {spec} returned {type(task).__name__}; return a nas.Task with a score")
    task = replace(task, name=spec, outputs=task.outputs or outputs)
    task.criterion(None)
    return task
