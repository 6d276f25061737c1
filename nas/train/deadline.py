"""Changes the length of a training so that it ends in time, by the rate of its steps, measured again and again.

The clock decides here; what it decided is kept with the result, and a replay follows that instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST_SECONDS = 1.0  # between two measurements
SHARE = 0.05  # of the time left, between two measurements
SLACK = 0.02  # of the steps left: a smaller change is not made


class Deadline:
    """A number of steps that fits into the time left; called after each step, with (steps done, steps)."""

    def __init__(
        self, seconds: float, after: int, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """seconds: from now on. after: what follows the training takes as long as so many steps. most: steps."""
        self._end = clock() + seconds
        self._after, self._most, self._clock = after, most, clock
        self._last: tuple[float, int] | None = None  # of the last measurement: when, and the steps done

    def __call__(self, step: int, steps: int) -> int:
        """Return the number of steps from here on: at least `step`; `steps` unless that is off by more than SLACK."""
        now = self._clock()
        if self._last is None:  # the first step takes longer than the others
            self._last = now, step
            return steps
        before, done = self._last
        left = self._end - now
        if now - before < max(LEAST_SECONDS, SHARE * left):
            return steps
        self._last = now, step
        fitting = int(left * (step - done) / (now - before)) - self._after
        fit = min(self._most, step + max(0, fitting))
        return fit if abs(fit - steps) > SLACK * (steps - step) else steps
