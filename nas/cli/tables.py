"""What the listing commands print: tables for people, plain text in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas.base.text import clip, cost_text, count, percent, plural, size, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from morphs import Child
    from nas.inspect.fsck import Checked
    from nas.inspect.status import RunStatus
    from nas.policies.front import Front
    from nas.run.events import Outcome

FRONT_ROWS = 20  # networks of a front that nas status lists
STATE_STYLES = {"running": "green", "finished": "", "stopped": "yellow", "silent": "yellow", "damaged": "red"}
FINDING_STYLES = {"damaged": "red", "missing": "red", "repaired": "green"}


def show(picture: RenderableType) -> None:
    """Print on standard output: in colour and fitted to a terminal; as wide as need be in a pipe."""
    if sys.stdout.isatty():
        Console(highlight=False).print(picture)
        return
    text = StringIO()
    Console(file=text, highlight=False, color_system=None, force_terminal=False, width=4000).print(picture)
    print("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """A bar on a terminal's standard error, moved by calls with (done, of how many); nothing elsewhere."""
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def facts(rows: list[tuple[str, str]]) -> Table:
    """Names and values, one pair a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def status(found: RunStatus) -> RenderableType:
    """A run, seen closely."""
    of = f" of {found.generations}" if found.generations is not None else ""
    generation = "none yet" if found.generation is None else f"{found.generation}{of}"
    trials = f"{found.complete} complete, {found.failed} failed, {found.running} running"
    if found.running and found.driver is None:
        trials = trials.replace("running", "to run again")
    budget = f" of {span(found.budget)}" if found.budget is not None else ""
    rows = [
        ("run", found.run),
        ("state", _state(found)),
        ("search", f"{found.space} on {found.data}, seed {found.seed}"),
        ("generation", generation),
        ("trials", trials),
    ]
    if found.best_trial is not None:
        what = f" ({found.best_moves})" if found.best_moves else ""
        rows += [
            ("best trial", f"{found.best_trial}{what}"),
            ("validation accuracy", percent(found.best_val_accuracy)),
            ("validation loss", "–" if found.best_val_loss is None else f"{found.best_val_loss:.4f}"),
            ("test accuracy", percent(found.test_accuracy)),
            ("parameters", count(found.best_params)),
        ]
    if found.front is not None:
        rows += front_rows(found.front)
    if found.seconds is not None:
        rows += [
            ("wall time", f"{span(found.seconds)}{budget}"),
            ("engine overhead", overhead_text(found.overhead)),
        ]
    kept = f"{plural(found.checkpoints, 'checkpoint')} ({size(found.checkpoint_bytes)}) kept"
    kept += f", {count(found.removed)} removed (--keep {found.keep})" if found.keep != "all" else ""
    rows += [("on disk", f"{size(found.disk_bytes)}, {kept}")]
    rows += [("problem", found.problem)] if found.problem is not None else []
    rows += [("command", found.command)] if found.command else []
    rows += [("next", found.next)]
    return facts(rows)


def _state(found: RunStatus) -> str:
    """How a run stands, and who drives it."""
    if found.driver is None:
        return found.state
    if found.state == "silent":
        return f"{found.driver} holds the lease and gives no sign of life; another driver takes it over after a while"
    lease = f", whose lease holds until {found.until} at least" if found.until else ""
    return f"{found.state}, by {found.driver}{lease}"


def front_rows(found: Front) -> list[tuple[str, str]]:
    """The front, one network a line, cheapest first."""
    named = {"params": "parameters", "macs": "multiply-adds", "latency": "latency"}[found.objective]
    lines = [
        f"{point.trial:<6} {percent(point.val_accuracy)}  {cost_text(found.objective, point.cost)}"
        for point in found.points[:FRONT_ROWS]
    ]
    if len(found.points) > FRONT_ROWS:
        lines.append(f"… {len(found.points) - FRONT_ROWS} more in the report")
    names = [f"front by {named}", *[""] * (len(lines) - 1)]
    return list(zip(names, lines, strict=True))


def checked(found: Checked) -> RenderableType:
    """What is not simply there and sound, a line each, and what that comes to."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("what", "trial", "checkpoint", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("fact", overflow="fold")
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
    """The moves of a chain, each with what it cost and how far its child computes from its parent."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("move", overflow="fold")
    for name in ("parameters", "drift in eval", "in train mode"):
        table.add_column(name, justify="right", no_wrap=True)
    for child in found:
        assert child.drift is not None
        drifts = (f"{child.drift.eval:.1e}", f"{child.drift.train:.1e}")
        table.add_row(Text(str(child.move)), count(child.network.graph.totals.weights), *drifts)
    return table


def overhead_text(share: float | None) -> str:
    """The engine's overhead, in words that need no page beside them."""
    return f"{percent(share, 1)} of the wall time, in which nothing trained or was evaluated"


def runs(found: list[RunStatus]) -> RenderableType:
    """Runs, one a line, and below them what is wrong with the damaged ones."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("run", "state"):
        table.add_column(name, no_wrap=True)
    table.add_column("search", overflow="fold")
    for name in ("gen", "val", "test", "params", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in found:
        of = f"/{run.generations}" if run.generations is not None else ""
        table.add_row(
            Text(name_of(run)),
            Text(run.state, STATE_STYLES[run.state]),
            Text(f"{run.space} on {run.data}" if run.space else "–"),
            "–" if run.generation is None else f"{run.generation}{of}",
            percent(run.best_val_accuracy),
            percent(run.test_accuracy),
            count(run.best_params),
            "–" if run.seconds is None else span(run.seconds),
        )
    problems = [Text(f"{name_of(run)}: {run.problem}", "red") for run in found if run.problem is not None]
    return Group(table, *problems)


def name_of(run: RunStatus) -> str:
    """What to call a run on the command line: its bare name where it lies in ./runs."""
    path = Path(run.run)
    return path.name if path.parent == Path("runs") else run.run


def summary(outcome: Outcome, report: Path | None) -> RenderableType:
    """What a finished run came to."""
    result = outcome.best.result
    why = {
        "budget": "the budget is spent",
        "generations": "all generations are done",
        "exhausted": "no move is left",
    }
    rows = [
        ("finished", f"{why.get(outcome.stopped, outcome.stopped)}; best trial {outcome.best.key}"),
        ("validation accuracy", percent(result.scores.get("val_accuracy") if result else None)),
        ("test accuracy", percent(outcome.test.accuracy if outcome.test else None)),
        ("parameters", count(result.params if result else None)),
        ("wall time", span(outcome.seconds)),
        ("engine overhead", overhead_text(outcome.overhead)),
        ("run folder", str(outcome.run)),
    ]
    rows += [("report", str(report))] if report is not None else []
    rows += [("next", f"nas export {outcome.run} --to DIR")]
    return Group(Text(), facts(rows))
