"""Chooses the progress view for an output."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from nas.base.printing import console
from nas.progress.notebook import Notebook, in_notebook
from nas.progress.state import RunProgress
from nas.progress.views import BarsView, PlainView, Terminal
from nas.run.events import Callback, Silent


def view_for(quiet: bool, out: TextIO | None = None) -> Callback:
    """The view for `out` (default: standard output): live in a notebook or on a capable terminal, else plain lines."""
    target: TextIO | None = out or sys.stdout
    if quiet or target is None:  # closed
        return Silent()
    progress = RunProgress()
    drawn = console(target)
    if drawn.is_jupyter and out is None:
        return BarsView(Notebook(in_notebook(), progress), progress)
    if target.isatty() and not drawn.is_dumb_terminal and drawn.encoding.startswith("utf"):
        return BarsView(Terminal(drawn, progress), progress)
    return PlainView(target, progress)


@contextmanager
def watching(quiet: bool) -> Generator[Callback]:
    """Yield the view for standard output. The terminal is restored however the run ends."""
    view = view_for(quiet)
    try:
        yield view
    finally:
        if isinstance(view, BarsView):
            view.close()
