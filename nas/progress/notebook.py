"""The live view in a notebook: one output, redrawn as the run progresses. It needs no widgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.progress.state import RunProgress, describe
from nas.progress.views import draw, facts, opening, verdict
from nas.run.events import Outcome

WIDTH = 110  # columns
PERIOD = 0.5  # seconds between two redraws
LINES = 200  # about ended generations and failures that stay visible
FORMAT = '<pre style="font-family:monospace;line-height:1.2;white-space:pre">{code}</pre>'
Show = Callable[[str], None]  # takes HTML, and replaces what was shown before


class NotebookView:
    """Shows one line for each generation and each failure, and bars below. The lines stay when the run ends."""

    def __init__(self, show: Show | None = None, progress: RunProgress | None = None) -> None:
        self._show = show or in_notebook()
        self._progress = progress or RunProgress()
        self._lines: list[Text] = []
        self._drawn = float("-inf")  # on the progress's clock
        self._closed = False

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Print the first line."""
        self._progress.open(run, config, view, resumed)
        self._say(Text(opening(run, config, view, resumed)))

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        """Show new bars."""
        self._progress.start(generation, jobs)
        self._draw()

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Move a bar."""
        self._progress.step(key, step, loss)
        self._draw()

    def on_trial_end(self, record: TrialRecord) -> None:
        """Fill the bar, or print a failure."""
        self._progress.tell(record)
        if record.result is None:
            self._say(Text(f"  {record.job.key}  {describe(record.job)}  {facts(record)}", "yellow"))
        self._draw()

    def on_generation_end(self, generation: int, best: TrialRecord) -> None:
        """Print the next incumbent."""
        if not best.job.final:
            self._say(Text(verdict(generation, self._progress.incumbent, best)))
        self._progress.end(best)

    def on_run_end(self, outcome: Outcome) -> None:
        """Remove the bars."""
        self.close()

    def close(self) -> None:
        """Leave only the lines visible. May be called twice."""
        if not self._closed and self._lines:
            self._show(as_html(Group(*self._lines)))
        self._closed = True

    def _say(self, line: Text) -> None:
        self._lines = [*self._lines, line][-LINES:]
        self._draw(at_once=True)

    def _draw(self, at_once: bool = False) -> None:
        now = self._progress.clock()
        if self._closed or (now - self._drawn < PERIOD and not at_once):
            return
        self._drawn = now
        self._show(as_html(Group(*self._lines, draw(self._progress, WIDTH))))


def as_html(picture: Group) -> str:
    """`picture` rendered by rich as HTML, with all text escaped."""
    console = Console(
        file=StringIO(), record=True, width=WIDTH, force_jupyter=False, force_terminal=True, highlight=False,
        color_system="truecolor",
    )  # fmt: skip
    console.print(picture)
    return console.export_html(inline_styles=True, code_format=FORMAT)


def in_notebook() -> Show:
    """A function that shows HTML in one output of the running cell."""
    ipython: Any = import_module("IPython.display")  # every notebook has it
    handles: list[Any] = []

    def show(html: str) -> None:
        if handles:
            handles[0].update(ipython.HTML(html))
        else:
            handles.append(ipython.display(ipython.HTML(html), display_id=True))

    return show
