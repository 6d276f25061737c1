"""The losses of a run, checked for NaN and Inf."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.base.errors import TrainingFailed


class LossWatch:
    """Collects the loss of each step on its device and checks the values every `every` steps.

    A check makes an accelerator wait, so it is rare there; a bad loss is still reported with its own step.
    """

    def __init__(
        self, steps: int, every: int, remedy: str, done: int = 0, before: Sequence[float] = ()
    ) -> None:
        """steps: of the whole run. done, before: the steps taken before this part, and `recent` at its start."""
        self._steps, self._every, self._remedy = steps, every, remedy
        self._done, self._before = done, tuple(before)
        self._waiting: list[Tensor] = []
        self.seen: list[float] = []

    def add(self, loss: Tensor) -> float:
        """Add the (scalar) loss of the next step; return the last checked loss, NaN before the first check.

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
        """Check the losses collected since the last check. Raises TrainingFailed."""
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
        """The last losses, as many as `final` may need, whenever the run ends from here on."""
        return (*self._before, *self.seen)[-_tail(self._taken) :]

    @property
    def final(self) -> float:
        """Mean loss over the last tenth of the steps taken, as far as known."""
        tail = [*self._before, *self.seen][-_tail(self._taken) :]
        return math.fsum(tail) / len(tail)


def _tail(steps: int) -> int:
    return max(1, steps // 10)


def non_finite(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters and buffers that contain a NaN or Inf."""
    return frozenset(
        name
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())
    )
