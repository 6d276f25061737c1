"""The tables that listing commands print: formatted on a terminal, plain text in a pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.base.printing import console, say
from nas.base.text import clip, count, nas_command, plural, size, span
from nas.inspect.rows import overhead_text, status_rows, verdict_rows
from nas.ledger.scores import called, chosen, labelled, merit, value_text
from nas.ledger.scores import name_of as name_of_score

if TYPE_CHECKING:
    from collections.abc import Iterable

    from morphs import Child
    from nas.inspect.fsck import Checked
    from nas.inspect.status import RunStatus
    from nas.run.events import Outcome

STATE_STYLES = {"running": "green", "finished": "", "stopped": "yellow", "silent": "yellow", "damaged": "red"}
FINDING_STYLES = {"damaged": "red", "missing": "red", "repaired": "green"}


def show(picture: RenderableType) -> None:
    """Print to standard output: in colour and fitted to a terminal, or without a limit on width in a pipe."""
    if sys.stdout.isatty():
        console().print(picture)
        return
    text = StringIO()
    console(text, color_system=None, force_terminal=False, width=4000).print(picture)
    say("\n".join(line.rstrip() for line in text.getvalue().split("\n")).rstrip("\n"))


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar on standard error if it is a terminal; yield a function (done, total) that moves it."""
    from rich.progress import Progress

    with Progress(console=console(sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def listed(plain: Iterable[str], folded: str) -> Table:
    """An empty table with `plain` columns and a last one whose long texts are folded."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in plain:
        table.add_column(name, no_wrap=True)
    table.add_column(folded, overflow="fold")
    return table


def facts(rows: list[tuple[str, str]]) -> Table:
    """Names and values, one pair per line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def status(found: RunStatus) -> RenderableType:
    """The status of one run in detail."""
    return facts(status_rows(found))


def checked(found: Checked) -> RenderableType:
    """The findings of a check, one per line, without checkpoints removed on purpose; and the verdict."""
    table = listed(("what", "trial", "checkpoint", "state"), folded="fact")
    shown = [finding for finding in found.findings if finding.state != "removed"]
    for finding in shown:
        table.add_row(
            finding.what,
            clip(", ".join(finding.trials), 24) or "–",
            (finding.digest or "–")[:12],
            Text(finding.state, FINDING_STYLES.get(finding.state, "")),
            Text(finding.fact),
        )
    sound = f"{plural(found.sound, 'checkpoint')} ({size(found.sound_bytes)}) intact"
    lost = sum(finding.damage for finding in found.findings)
    removed = len(found.findings) - len(shown)
    sound += f", {count(removed)} removed to bound the disk (--keep)" if removed else ""
    verdict = f"{plural(lost, 'loss')}; see the table" if lost else "nothing is lost"
    total = Text(f"{found.run}: {plural(found.trials, 'trial')}, {sound}; {verdict}", "red" if lost else "")
    return Group(table, total) if shown else total


def children(found: Iterable[Child]) -> RenderableType:
    """The moves of a chain, each with its child's parameters and drift."""
    table = listed((), folded="move")
    for name in ("parameters", "drift in eval", "in train mode"):
        table.add_column(name, justify="right", no_wrap=True)
    for child in found:
        assert child.drift is not None
        drifts = (f"{child.drift.eval:.1e}", f"{child.drift.train:.1e}")
        table.add_row(Text(str(child.move)), count(child.network.graph.totals.weights), *drifts)
    return table


def ordered(found: Iterable[RunStatus], order: str) -> list[RunStatus]:
    """Runs in an order of `nas.cli.options.Order`: the best score first, or the most; unknown ones last."""

    def key(run: RunStatus) -> float:
        known = {
            "test": _merit(run.score, run.test_score), "val": _merit(run.score, run.best_score),
            "params": run.best_params, "time": run.seconds, "disk": run.disk_bytes,
        }[order]  # fmt: skip
        return -math.inf if known is None else known

    return list(found) if order == "date" else sorted(found, key=key, reverse=True)


def _merit(which: str, value: float | None) -> float | None:
    return None if value is None else merit(which, value)


def runs(found: list[RunStatus]) -> RenderableType:
    """Runs, one per line; below them the problems of damaged ones."""
    table = listed(("run", "state"), folded="search")
    for name in ("gen", "val", "test", "params", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in found:
        of = f"/{run.generations}" if run.generations is not None else ""
        table.add_row(
            Text(name_of(run)),
            Text(run.state, STATE_STYLES[run.state]),
            Text(f"{run.space} on {run.data}" if run.space else "–"),
            "–" if run.generation is None else f"{run.generation}{of}",
            labelled(run.select, run.best_value),
            value_text(run.score, run.test_score),
            count(run.best_params),
            "–" if run.seconds is None else span(run.seconds),
        )
    problems = [Text(f"{name_of(run)}: {run.problem}", "red") for run in found if run.problem is not None]
    return Group(table, *problems)


def name_of(run: RunStatus) -> str:
    """A run's name on the command line: its folder's name if it is in ./runs, else its path."""
    path = Path(run.run)
    return path.name if path.parent == Path("runs") else run.run


def _as_given(outcome: Outcome) -> list[tuple[str, str]]:
    """What the model that a search started from scored before any training."""
    result = next((r.result for r in outcome.view.trials if r.job.given and r.result is not None), None)
    value = None if result is None else result.scores.get(f"given_{name_of_score(result.main)}")
    return [] if result is None or value is None else [("as it was given", value_text(result.main, value))]


def _validation(outcome: Outcome) -> list[tuple[str, str]]:
    """The best trial's validation score that selects, named as such where it is not the task's own, and that."""
    result = outcome.best.result
    if result is None:
        return [("validation accuracy", "–")]
    which, value = chosen(result.scores, outcome.view.notes.select, result.main)
    own = (f"validation {called(result.main)}", value_text(result.main, result.value))
    return (
        [own]
        if which == result.main
        else [(f"validation {called(which)}", f"{value_text(which, value)} (selects)"), own]
    )


def summary(outcome: Outcome, report: Path | None) -> RenderableType:
    """The results of a finished run."""
    from nas.inspect.verdict import beside, ending, remarks
    from nas.ledger import read_config

    described = read_config(outcome.run).described
    result = outcome.best.result
    score = result.main if result else "accuracy"
    why = ending(outcome.view, described.config, outcome.stopped)
    rows = [
        ("finished", f"{why}; best trial {outcome.best.key}"),
        *_validation(outcome),
        *_as_given(outcome),
        (f"test {called(score)}", value_text(score, result.tested if result else None)),
        *verdict_rows(beside(outcome.view, described.config), remarks(outcome.view, described.config)),
        ("parameters", count(result.params if result else None)),
        ("wall time", span(outcome.seconds)),
        ("engine overhead", overhead_text(outcome.overhead)),
        ("run folder", str(outcome.run)),
    ]
    rows += [("report", str(report))] if report is not None else []
    rows += [("next", nas_command("export", outcome.run, "--to", "DIR"))]
    return Group(Text(), facts(rows))
