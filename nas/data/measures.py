"""Scores of outputs for targets. Legend: N examples, K outputs; all are computed in float64, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """How the values of a regression are standardised: (y − centre) / scale, one of each for an output."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]

    def standardised(self, y: Tensor) -> Tensor:
        """Of targets [N, K], in float64 where the device has it."""
        kind = torch.float32 if y.device.type == "mps" else torch.float64
        centre, scale = (
            torch.tensor(part, dtype=kind, device=y.device) for part in (self.centre, self.scale)
        )
        return (y.to(kind) - centre) / scale

    def errors(self, out: Tensor, y: Tensor) -> Tensor:
        """The errors of outputs [N, K] in the unit of the targets."""
        centre, scale = torch.tensor(self.centre).double(), torch.tensor(self.scale).double()
        return out.double() * scale + centre - y.double()


def accuracy(out: Tensor, y: Tensor) -> float:
    """The share of examples whose largest output is their class."""
    return int((out.argmax(dim=1) == y).sum()) / len(y)


def balanced_accuracy(out: Tensor, y: Tensor) -> float:
    """The mean over the classes in `y` of the share of their examples that are right."""
    hits = (out.argmax(dim=1) == y).double()
    present = y.bincount()
    right = torch.zeros(len(present), dtype=torch.float64).scatter_add_(0, y, hits)
    return float((right / present)[present > 0].mean())


def f1(out: Tensor, y: Tensor) -> float:
    """2 TP / (2 TP + FP + FN) over all labels, where an output above 0, a probability of 1/2, is a label."""
    said, true = out > 0, y > 0.5
    right, wrong = int((said & true).sum()), int((said != true).sum())
    return 2 * right / (2 * right + wrong) if right or wrong else 1.0


def exact_match(out: Tensor, y: Tensor) -> float:
    """The share of examples all of whose labels are right."""
    return float(((out > 0) == (y > 0.5)).all(dim=1).double().mean())


def rmse(fit: Fit, out: Tensor, y: Tensor) -> float:
    """The root of the mean squared error over all examples and outputs."""
    return float(fit.errors(out, y).square().mean().sqrt())


def mae(fit: Fit, out: Tensor, y: Tensor) -> float:
    """The mean absolute error."""
    return float(fit.errors(out, y).abs().mean())


def r2(fit: Fit, out: Tensor, y: Tensor) -> float:
    """1 − squared errors / squared deviations from the mean of `y`, the mean over the outputs; 0 for equal targets."""
    wrong = fit.errors(out, y).square().sum(0)
    whole = (y.double() - y.double().mean(0)).square().sum(0)
    return float(torch.where(whole > 0, 1 - wrong / whole.clamp(min=1e-300), torch.zeros_like(whole)).mean())
