"""Progress views of a run: live on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.base.printing import say
from nas.base.text import clip, count, one_line, plural, span
from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.scores import change_text, chosen, merit, name_of, value_text
from nas.ledger.types import Criterion
from nas.ledger.wall_time import seconds_of
from nas.progress.state import Competitor, RunProgress, describe, value_of
from nas.run.events import Outcome

HEARTBEAT = 30.0  # seconds between two lines about a running training, in a log
ROWS = 8  # competitors shown at once


def opening(run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> str:
    """The first line: the space, the data and the folder of the run."""
    began = f"resumed after {plural(len(view.complete), 'trial')}, " if resumed else ""
    end = [f"{span(config.budget)} of wall time"] if config.budget is not None else []
    end += [f"{count(round(config.cost))} multiply-adds"] if config.cost is not None else []
    if config.generations == 0:
        end += ["the seed network alone"]
    else:
        end += [plural(config.generations, "generation")] if config.generations is not None else []
        end += [f"{plural(config.children, 'child')} each"]
    return f"{config.space} on {config.data}: {began}{', '.join(end)}, seed {config.seed}, in {run}"


def facts(record: TrialRecord, select: Criterion | None = None) -> str:
    """The outcome of a trial: scores and size, or why it failed. select: the criterion by which the search selects."""
    if record.result is None:
        return f"failed: {one_line(record.reason or 'no reason is known')}"
    result = record.result
    parts = [f"val {value_of(record, select, full=True)}"]
    if result.tested is not None:
        parts.append(f"test {value_text(result.main, result.tested)}")
    return "  ".join([*parts, f"{count(result.params)} params", span(seconds_of(result))])


def gain(before: TrialRecord | None, after: TrialRecord, select: Criterion | None = None) -> str:
    """The change of the validation score that selects, as (+0.42), percentage points of a fraction; if it is for the
    worse, with the reason. Empty if unknown.
    """
    if before is None or before.result is None or after.result is None:
        return ""
    which, now = chosen(after.result.scores, select or after.result.main, after.result.main)
    then = before.result.scores.get(f"val_{name_of(which)}", now)
    fell = merit(which, now) < merit(which, then)
    why = (
        "; the best is that of the last generation, whose trials are compared with each other" if fell else ""
    )
    return f" ({change_text(which, now - then)}{why})"


def verdict(
    generation: int, before: TrialRecord | None, best: TrialRecord, select: Criterion | None = None
) -> str:
    """The last line about a generation. select: the criterion by which the search selects."""
    return (
        f"generation {generation}: best {best.job.key}, {describe(best.job)}: val {value_of(best, select)}"
        f"{gain(before, best, select)}, {count(best.result.params if best.result else None)} params"
    )


class PlainView:
    """Prints one line per event, without control codes, and one every `HEARTBEAT` seconds during a long training."""

    def __init__(self, out: TextIO | None, progress: RunProgress) -> None:
        self._out = out
        self._progress = progress
        self._budget: float | None = None
        self._said = 0.0  # when the last line was written, on the progress's clock

    def _say(self, text: str) -> None:
        self._said = self._progress.clock()
        if self._out is None:
            return
        try:
            say(f"{span(self._progress.elapsed()):>8}  {text}", self._out)
        except (
            OSError,
            ValueError,
        ):  # the reader has gone; the search continues, and its folder can be read
            self._out = None

    def on_data(self, notes: Sequence[str]) -> None:
        """Print what the data are and what is done to them."""
        for note in notes:
            self._say(f"data: {note}")

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Print the first line."""
        self._budget = config.budget
        self._progress.open(run, config, view, resumed)
        self._say(opening(run, config, view, resumed))

    def on_notice(self, text: str) -> None:
        """Print it."""
        self._say(text)

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        """Print how many trials compete, or only the generation if trials start one by one."""
        joined = generation == self._progress.generation
        self._progress.start(generation, jobs)
        if self._progress.final:
            steps = sum(job.steps for job in jobs)
            about = "" if self._budget is None else "about "
            self._say(f"final training: {about}{steps} steps{self._left()}")
        elif not joined:
            count = f": {len(jobs)} to train" if len(jobs) > 1 or not generation else ""
            self._say(f"generation {generation}{count}{self._left()}")

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Print the progress of a long training."""
        self._progress.step(key, step, loss, steps)
        if self._progress.clock() - self._said >= HEARTBEAT:
            self._say(f"  {key} at step {step} of {steps}, loss {loss:.3f}{self._left()}")

    def on_trial_end(self, record: TrialRecord) -> None:
        """Print the outcome of a trial."""
        self._progress.tell(record)
        ended, total = self._progress.ended, len(self._progress.competitors)
        self._say(
            f"  {ended}/{total}  {record.job.key}  {describe(record.job)}  {facts(record, self._progress.select)}"
        )

    def on_generation_end(self, generation: int, best: TrialRecord) -> None:
        """Print the next incumbent."""
        if not best.job.final:
            self._say(verdict(generation, self._progress.incumbent, best, self._progress.select))
        self._progress.end(best)

    def on_run_end(self, outcome: Outcome) -> None:
        """The command prints the summary."""

    def _left(self) -> str:
        left = self._progress.left()
        return "" if left is None else f", about {span(left)} left"


class Screen(Protocol):
    """Shows lines that last, and below them the bars while the run progresses."""

    def say(self, line: Text) -> None:
        """Add a line."""

    def draw(self) -> None:
        """The progress has changed."""

    def close(self) -> None:
        """Leave only the lines. May be called twice."""


class BarsView:
    """Draws bars for the run, the generation and each competitor, and the best trial so far.

    Above them are the lines about ended generations and failures.
    """

    def __init__(self, screen: Screen, progress: RunProgress) -> None:
        self._screen = screen
        self._progress = progress
        self.close = screen.close

    def on_data(self, notes: Sequence[str]) -> None:
        """Print what the data are and what is done to them."""
        for note in notes:
            self._screen.say(Text(f"data: {note}"))

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Print the first line."""
        self._progress.open(run, config, view, resumed)
        self._screen.say(Text(opening(run, config, view, resumed)))
        self._screen.draw()

    def on_notice(self, text: str) -> None:
        """Print it."""
        self._screen.say(Text(text))

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        """Show new bars."""
        self._progress.start(generation, jobs)
        self._screen.draw()

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Move a bar."""
        self._progress.step(key, step, loss, steps)
        self._screen.draw()

    def on_trial_end(self, record: TrialRecord) -> None:
        """Fill the bar, or print a failure."""
        self._progress.tell(record)
        if record.result is None:
            line = f"  {record.job.key}  {describe(record.job)}  {facts(record, self._progress.select)}"
            self._screen.say(Text(line, "yellow"))
        self._screen.draw()

    def on_generation_end(self, generation: int, best: TrialRecord) -> None:
        """Print the next incumbent."""
        if not best.job.final:
            self._screen.say(Text(verdict(generation, self._progress.incumbent, best, self._progress.select)))
        self._progress.end(best)

    def on_run_end(self, outcome: Outcome) -> None:
        """Remove the bars."""
        self.close()


class Terminal:
    """The screen of a terminal, redrawn by a thread. If the terminal is closed, the search continues without it."""

    def __init__(self, console: Console, progress: RunProgress) -> None:
        self._console = console
        self._closed = False
        self._live = Live(
            _Drawing(progress),
            console=console,
            refresh_per_second=5,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),  # to the lines above the bars, unless it goes elsewhere
        )

    def say(self, line: Text) -> None:
        """Print above the bars."""
        with suppress(OSError):
            self._console.print(line)

    def draw(self) -> None:
        """Start to draw; from then on the thread does."""
        if not self._closed:
            with suppress(OSError):
                self._live.start()

    def close(self) -> None:
        """Stop drawing and restore the terminal."""
        self._closed = True
        with suppress(OSError):
            self._live.stop()


class _Drawing:
    """The live view's content, rebuilt at each refresh."""

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._progress.lock:
            yield draw(self._progress, options.max_width)


def draw(progress: RunProgress, width: int) -> Group:
    """`progress` drawn in `width` columns: run, generation, competitors, best so far."""
    config = progress.config
    table = Table.grid(padding=(0, 1))
    name = max(12, min(52, width - 46))
    table.add_column(no_wrap=True, width=name)
    table.add_column(width=max(8, min(30, width - name - 30)))
    table.add_column(no_wrap=True, overflow="ellipsis")
    if config is None or not progress.competitors:
        return Group(Text("starting …", style="dim"))
    of = f" of {config.generations}" if config.generations is not None else ""
    title = f"generation {progress.generation}{of}" if progress.generation else "seed network"
    title = "final training" if progress.final else title
    left = progress.left()
    remaining = "" if left is None or left < 1 else f", {span(left)} left"
    times = f"{span(progress.spent + progress.elapsed())}{remaining}"
    table.add_row(Text("whole run", "bold"), _bar(progress.share()), Text(times))
    done = f"{progress.ended} of {len(progress.competitors)} trained"
    table.add_row(Text(title, "bold"), _bar(progress.part), Text(done))
    for competitor in _shown(list(progress.competitors.values())):
        style = "dim" if competitor.record is not None or competitor.loss is None else ""
        table.add_row(
            Text(clip(f"  {competitor.job.key}  {describe(competitor.job)}", name), style),
            _bar(competitor.share),
            Text(_row_end(competitor, progress.select), style),
        )
    best = progress.best
    line = "none yet"
    if best is not None and best.result is not None:
        name_of_best = f"{best.job.key} {describe(best.job)}"
        value = value_of(best, progress.select, full=True)
        line = f"val {value}, {plural(best.result.params, 'parameter')}, {name_of_best}"
    return Group(table, Text.assemble(("best so far  ", "bold"), line, no_wrap=True, overflow="ellipsis"))


def _bar(share: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=share)


def _row_end(competitor: Competitor, select: Criterion | None) -> str:
    if competitor.record is not None:
        result = competitor.record.result
        return "failed" if result is None else f"val {value_of(competitor.record, select)}"
    if competitor.loss is None:
        return "waiting"
    return f"step {competitor.step}/{competitor.steps}  loss {competitor.loss:.3f}"


def _shown(competitors: list[Competitor]) -> list[Competitor]:
    """At most ROWS of them, in their order; running ones are preferred, then waiting ones, then ended ones."""

    def rank(competitor: Competitor) -> int:
        if competitor.record is not None:
            return 2
        return 1 if competitor.loss is None else 0

    chosen = sorted(competitors, key=rank)[:ROWS]
    return [competitor for competitor in competitors if competitor in chosen]
