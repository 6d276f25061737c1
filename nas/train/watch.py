"""Losses of a run, and the guard against NaN and Inf."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.base.errors import TrainingFailed


class LossWatch:
    """Collects the loss of each step, on its device, and looks at the numbers every `every` steps.

    Looking makes an accelerator wait, so it is rare there; a bad loss is reported with its own step all the same.
    """

    def __init__(
        self, steps: int, every: int, remedy: str, done: int = 0, before: Sequence[float] = ()
    ) -> None:
        """steps: of the whole run. done, before: steps of it that were taken elsewhere, and what `recent` was there."""
        self._steps, self._every, self._remedy = steps, every, remedy
        self._done, self._before = done, tuple(before)
        self._waiting: list[Tensor] = []
        self.seen: list[float] = []

    def add(self, loss: Tensor) -> float:
        """Take the (scalar) loss of the next step; returns the last one looked at, NaN before the first look.

        Raises TrainingFailed.
        """
        if self._every == 1:
            self._check(loss.item())
        else:
            self._waiting.append(loss.detach())
            if len(self._waiting) == self._every or self._taken + len(self._waiting) == self._steps:
                self.look()
        return self.seen[-1] if self.seen else math.nan

    def look(self) -> None:
        """Check what has been collected. Raises TrainingFailed."""
        waiting, self._waiting = self._waiting, []
        for value in torch.stack(waiting).tolist() if waiting else ():
            self._check(value)

    def _check(self, value: float) -> None:
        self.seen.append(value)
        if not math.isfinite(value):
            raise TrainingFailed(
                f"the loss became {value} at step {self._taken} of {self._steps} of training; {self._remedy}"
            )

    @property
    def _taken(self) -> int:
        return self._done + len(self.seen)

    @property
    def recent(self) -> tuple[float, ...]:
        """The losses so far of the last tenth of the run's steps: none before that begins."""
        first = self._steps - max(1, self._steps // 10)
        return (*self._before, *self.seen[max(0, first - self._done) :])

    @property
    def final(self) -> float:
        """Mean over the last tenth of the steps taken, as far as they were seen."""
        tail = [*self._before, *self.seen][-max(1, self._taken // 10) :]
        return math.fsum(tail) / len(tail)


def non_finite(module: nn.Module) -> frozenset[str]:
    """Names of the parameters and buffers that hold a NaN or Inf."""
    return frozenset(
        name
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())
    )
