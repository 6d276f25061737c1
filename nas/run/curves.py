"""Keeps the learning curves of running trials in the ledger, thinned: a few dozen points each, written together."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from nas.ledger import Ledger

POINTS = 60  # of a trial, about
PERIOD = 5.0  # seconds between two writes, each of which waits for the disk


@dataclass
class Curves:
    """The points that are not written yet."""

    ledger: Ledger
    _new: dict[int, list[tuple[int, float]]] = field(default_factory=dict[int, list[tuple[int, float]]])
    _last: dict[int, int] = field(default_factory=dict[int, int])  # the last step kept of each trial
    _written: float = field(default_factory=time.monotonic)

    def add(self, number: int, step: int, steps: int, loss: float) -> None:
        """A trial has trained `step` of `steps`."""
        before = self._last.get(number, 0)
        if step < before:  # it was begun again
            self._new.pop(number, None)
            before = 0
        if math.isfinite(loss) and (step - before >= steps / POINTS or (step == steps and step > before)):
            self._last[number] = step
            self._new.setdefault(number, []).append((step, loss))

    def write(self, now: bool = False) -> None:
        """Write the new points, at most once in a PERIOD unless it has to be `now`."""
        if self._new and (now or time.monotonic() - self._written >= PERIOD):
            new, self._new = self._new, {}
            self.ledger.curve(new)
            self._written = time.monotonic()
