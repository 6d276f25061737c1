"""Changes the length of a training so that it ends in time, by the rate of its steps, measured again and again.

The clock decides here; what it decided is kept with the result, and a replay follows that instead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

OFTEN = 1.0, 0.05  # between two measurements: seconds at least, and a share of the time left; or
OFTEN_STEPS = 0.2  # of the steps left: a machine that is free again could otherwise have taken them all
WINDOW = 5.0, 0.2  # over which the rate is measured, likewise: a short disturbance must not decide
SLACK = 0.02  # of the steps left: a smaller change is not made


class Deadline:
    """A number of steps that fits into the time left; called after each step, with (steps done, steps)."""

    def __init__(
        self,
        seconds: float,
        after: float,
        pace: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """seconds: from now on, for the training and what follows it. after: seconds of what follows it; more, if steps
        take longer than `pace` seconds, which is expected. most: steps.
        """
        self._end = clock() + seconds
        self._after, self._pace, self._most, self._clock = after, max(1e-9, pace), most, clock
        self._seen: deque[tuple[float, float]] = deque()  # measurements: when, and the steps done

    def __call__(self, step: int, steps: int) -> int:
        """Return the number of steps from here on: at least `step`; `steps` unless that is off by more than SLACK."""
        now = self._clock()
        left = self._end - now
        if left <= self._after or step >= steps:  # in the latter case the schedule has come to its end
            return step
        if not self._seen:  # as if steps had taken `pace` so far; the first one takes longer than the others
            window = _of(WINDOW, left)
            self._seen.extend([(now - window, step - window / self._pace), (now, step)])
        last, then = self._seen[-1]
        if now - last < _of(OFTEN, left) and step - then < OFTEN_STEPS * (steps - then):
            return steps
        self._seen.append((now, step))
        while self._seen[1][0] <= now - _of(WINDOW, left):
            self._seen.popleft()
        first, done = self._seen[0]
        pace = (now - first) / (step - done)
        fitting = int((left - self._after * max(1.0, pace / self._pace)) / pace)
        fit = min(self._most, step + max(0, fitting))
        return fit if abs(fit - steps) > SLACK * (steps - step) else steps


def _of(bound: tuple[float, float], left: float) -> float:
    least, share = bound
    return max(least, share * left)
