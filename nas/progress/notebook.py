"""The live view in a notebook: one output, redrawn as the run progresses. It needs no widgets."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from io import StringIO
from typing import Any

from rich.console import Group
from rich.text import Text

from nas.base.printing import console
from nas.progress.state import RunProgress
from nas.progress.views import draw

WIDTH = 110  # columns
PERIOD = 0.5  # seconds between two redraws
LINES = 200  # about ended generations and failures that stay visible
FORMAT = '<pre style="font-family:monospace;line-height:1.2;white-space:pre">{code}</pre>'


class Notebook:
    """The screen of a notebook. show: takes HTML, and replaces what was shown before."""

    def __init__(self, show: Callable[[str], None], progress: RunProgress) -> None:
        self._show = show
        self._progress = progress
        self._lines: list[Text] = []
        self._drawn = float("-inf")  # on the progress's clock
        self._closed = False

    def say(self, line: Text) -> None:
        """Add a line and redraw at once."""
        self._lines = [*self._lines, line][-LINES:]
        self._drawn = float("-inf")
        self.draw()

    def draw(self) -> None:
        """Redraw, unless that was done within the last PERIOD."""
        now = self._progress.clock()
        if not self._closed and now - self._drawn >= PERIOD:
            self._drawn = now
            self._show(as_html(Group(*self._lines, draw(self._progress, WIDTH))))

    def close(self) -> None:
        """Leave only the lines visible. May be called twice."""
        if not self._closed and self._lines:
            self._show(as_html(Group(*self._lines)))
        self._closed = True


def as_html(picture: Group) -> str:
    """`picture` rendered by rich as HTML, with all text escaped."""
    drawn = console(
        StringIO(),
        record=True,
        width=WIDTH,
        force_jupyter=False,
        force_terminal=True,
        color_system="truecolor",
    )
    drawn.print(picture)
    return drawn.export_html(inline_styles=True, code_format=FORMAT)


def in_notebook() -> Callable[[str], None]:
    """A function that shows HTML in one output of the running cell."""
    ipython: Any = import_module("IPython.display")  # every notebook has it
    handles: list[Any] = []

    def show(html: str) -> None:
        if handles:
            handles[0].update(ipython.HTML(html))
        else:
            handles.append(ipython.display(ipython.HTML(html), display_id=True))

    return show
