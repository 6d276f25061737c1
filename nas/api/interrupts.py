"""Handles Ctrl-C: the first stops a run, and further ones don't interrupt the clean-up."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from nas.base.printing import warn

AGAIN = 0.01  # seconds until an exception that Python dropped is raised again


@dataclass
class Interrupts:
    """Counts requests to stop. The first raises KeyboardInterrupt, which stops the run; the second prints a note."""

    count: int = 0
    _again: threading.Timer | None = field(default=None, repr=False)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt
        if self.count == 2:
            warn("\nnas: already stopping, please wait")

    def hook(
        self, former: Callable[[sys.UnraisableHookArgs], object]
    ) -> Callable[[sys.UnraisableHookArgs], None]:
        """A hook for exceptions that Python drops, as in the callback of a weak reference: KeyboardInterrupt is raised
        again a moment later; `former` gets the others.
        """

        def dropped(unraisable: sys.UnraisableHookArgs) -> None:
            if not issubclass(unraisable.exc_type, KeyboardInterrupt):
                former(unraisable)
                return
            self.count = 0
            self._again = threading.Timer(AGAIN, _thread.interrupt_main)
            self._again.daemon = True
            self._again.start()

        return dropped

    def close(self) -> None:
        """Raise nothing again."""
        if self._again is not None:
            self._again.cancel()


@contextmanager
def interrupts(
    signals: Sequence[signal.Signals] = (signal.SIGINT,), leaving: bool = False
) -> Generator[Interrupts]:
    """Handle `signals`, of which SIGINT is one, inside the context. Does nothing outside the main thread, which alone
    receives signals.

    leaving: the process exits afterwards; once stopped, it ignores the signals until then.
    """
    found = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    hook = sys.unraisablehook
    former = {number: signal.signal(number, found.handle) for number in signals}
    sys.unraisablehook = found.hook(hook)
    try:
        yield found
    finally:
        found.close()
        for number, handler in former.items():
            signal.signal(number, signal.SIG_IGN if leaving and found.count else handler)
        sys.unraisablehook = hook
