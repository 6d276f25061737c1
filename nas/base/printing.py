"""All output for people: every text is made printable here, and nowhere else is anything printed (a test holds it).

A run folder may come from somebody else, and any string in it may hold control characters.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from nas.base.streams import encodable
from nas.base.text import printable


def say(text: str, out: TextIO | None = None) -> None:
    """Print `text` and a newline to `out`, or to standard output if that is None; nothing where that is closed."""
    target: TextIO | None = out or sys.stdout
    if target is not None:
        print(encodable(printable(text), target), file=target, flush=True)


def warn(text: str) -> None:
    """Print `text` and a newline to standard error."""
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
        with suppress(OSError, ValueError):  # nobody listens
            say(text, sys.stderr)


def warn_of_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that nothing handles: for `sys.excepthook`."""
    warn("".join(traceback.format_exception(kind, error, trace)).rstrip())


class SafeConsole(Console):
    """A console of rich that makes the text of whatever it draws printable; only rich's own control codes are left."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Draw `renderable`; called again for each of its parts."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text.isprintable() else Segment(printable(text), style)


def console(out: TextIO | None = None, **settings: Any) -> Console:
    """Return a console for `out`, or for standard output if that is None. settings: of rich's Console."""
    return SafeConsole(file=out, highlight=False, **settings)
