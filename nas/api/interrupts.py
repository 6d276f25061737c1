"""Handles Ctrl-C: the first stops a run, and further ones don't interrupt the clean-up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from nas.base.printing import warn


@dataclass
class Interrupts:
    """Counts requests to stop. The first raises KeyboardInterrupt, which stops the run; the second prints a note."""

    count: int = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt
        if self.count == 2:
            warn("\nnas: already stopping, please wait")


@contextmanager
def interrupts(
    signals: Sequence[signal.Signals] = (signal.SIGINT,), leaving: bool = False
) -> Generator[Interrupts]:
    """Handle `signals` inside the context. Does nothing outside the main thread, which alone receives signals.

    leaving: the process exits afterwards; once stopped, it ignores the signals until then.
    """
    found = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    former = {number: signal.signal(number, found.handle) for number in signals}
    try:
        yield found
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_IGN if leaving and found.count else handler)
