"""Averaged weights: the mean over the last steps of a training, which is better and less noisy than its last step.

At a constant learning rate it comes close to what a decay of the rate would give. Source: stochastic weight averaging,
Izmailov et al., arXiv 1803.05407, algorithm 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nas.train.precision import Arithmetic

NORM_BATCHES = 16  # from which the statistics of batch norms are estimated for averaged weights
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Average:
    """The mean of the trainable parameters of `module` over the steps at which `add` was called."""

    module: nn.Module
    _sums: list[Tensor] = field(default_factory=list[Tensor])
    _count: int = 0

    def add(self) -> None:
        """Include the present weights."""
        now = [parameter.detach() for parameter in self.module.parameters()]
        if self._sums:
            for total, value in zip(self._sums, now, strict=True):
                total.add_(value)
        else:
            self._sums = [value.clone() for value in now]
        self._count += 1

    def averaged(self, batches: Iterator[tuple[Tensor, Tensor]], arithmetic: Arithmetic) -> nn.Module:
        """A copy of the module with the mean weights, and the statistics of its batch norms estimated for them from
        the next NORM_BATCHES of `batches`.
        """
        made = copy.deepcopy(self.module)
        with torch.no_grad():
            for parameter, total in zip(made.parameters(), self._sums, strict=True):
                parameter.copy_(total / self._count)
        norms = [part for part in made.modules() if isinstance(part, NORMS) and part.track_running_stats]
        if norms:
            _estimate(made, norms, batches, arithmetic)
        return made


def _estimate(
    module: nn.Module,
    norms: list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d],
    batches: Iterator[tuple[Tensor, Tensor]],
    arithmetic: Arithmetic,
) -> None:
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    with torch.no_grad():
        for _ in range(NORM_BATCHES):
            x, _ = next(batches)
            with torch.autocast(x.device.type, torch.bfloat16) if arithmetic.bf16 else nullcontext():
                module(x)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
