"""Several runs beside each other: what each found, and its best score so far against its running time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from nas.inspect.status import RunStatus, run_status
from nas.ledger import LedgerView, read
from nas.ledger.scores import axis_title, is_lower_better, scale_of
from nas.ledger.types import Criterion
from nas.report.charts import Figure
from nas.report.tables import clock, trial_rows

COLORS = ("accent", "gold", "good", "bad", "muted", "soft", "text")


@dataclass(frozen=True)
class Compared:
    """One of the runs. line: (running time in seconds, the best validation score that selects so far)."""

    state: RunStatus
    trials: int
    seconds: float
    macs: int | None
    line: tuple[tuple[float, float], ...]


def compared(run: Path) -> Compared:
    """Read a run. Raises RunError or LedgerDamaged if it can't be read."""
    view = read(run)
    return of_view(view, run_status(run, view=view))


def of_view(view: LedgerView, state: RunStatus) -> Compared:
    """The run whose ledger has been read."""
    ended = sorted(
        (row.time, row.value)
        for row in trial_rows(view)
        if row.time is not None and row.value is not None and row.score == state.select
    )
    better = min if is_lower_better(state.select) else max
    best = accumulate((value for _, value in ended), better)
    result = None if view.best is None else view.best.result
    return Compared(
        state, len(view.trials), state.seconds or max(clock(view).values(), default=0.0),
        None if result is None else result.macs, tuple(zip((time for time, _ in ended), best, strict=True)),
    )  # fmt: skip


def comparison_chart(runs: Sequence[Compared]) -> Figure:
    """Plot the best score so far of each run that selects as the first one does."""
    select: Criterion = runs[0].state.select
    alike = [run for run in runs if run.state.select == select and run.line]
    data = [
        {
            "type": "scatter", "mode": "lines+markers", "name": run.state.run, "x": [time for time, _ in run.line],
            "y": [scale_of(select) * value for _, value in run.line],
            "line": {"shape": "hv", "color": COLORS[number % len(COLORS)]},
        }
        for number, run in enumerate(alike)
    ]  # fmt: skip
    layout = {"xaxis": {"title": "running time (seconds)"}, "yaxis": {"title": f"best {axis_title(select)}"}}
    return {"data": data, "layout": layout}
