"""RUN/report.html, made from the ledger: one file that works offline in any browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from morphs.graph.draw import STYLE
from nas.base.text import cost_text, printable
from nas.inspect.status import RunStatus, run_status
from nas.ledger import LedgerView, read_config, read_with_curves
from nas.ledger.curves import Points
from nas.ledger.files import atomic_write
from nas.ledger.run_files import REPORT
from nas.ledger.types import Kind
from nas.report.charts import NO_CURVES, Figure, figures
from nas.report.compare import Compared, comparison_chart, of_view
from nas.report.details import Drawn, details, drawn, packed
from nas.report.mistakes import mistakes_of
from nas.report.tables import TrialRow, clock, drift_rows, move_rows, trial_rows
from nas.report.templates import fill
from nas.report.tree import tree_svg


@dataclass(frozen=True)
class Page:
    """What the page shows of a run at one moment. facts: the configuration given to `Ledger.create`. others: runs to
    compare it with.
    """

    view: LedgerView
    facts: Mapping[str, Any]
    state: RunStatus
    curves: Mapping[str, Points] = field(default_factory=lambda: NO_CURVES)
    others: Sequence[Compared] = ()

    @cached_property
    def rows(self) -> tuple[TrialRow, ...]:
        """The trials."""
        return trial_rows(self.view)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The charts, by their place in the page."""
        moves, drifts = move_rows(self.rows), drift_rows(self.rows)
        found = figures(self.rows, moves, drifts, self.state.front, self.curves)
        return {**found, "compare": comparison_chart(self._compared)} if self.others else found

    @property
    def _compared(self) -> tuple[Compared, ...]:
        return (of_view(self.view, self.state), *self.others)

    def main(self) -> str:
        """Return the page's content, without charts. All text from the run is escaped."""
        rows, state = self.rows, self.state
        best = next((row for row in rows if row.best), None)
        seconds = state.seconds
        return fill(
            "main.html.j2",
            best=best,
            seed=next((row for row in reversed(rows) if row.kind == Kind.SEED), None),
            generations=len({row.generation for row in rows if row.kind in (Kind.PARENT, Kind.CHILD)}),
            finished=self.view.final is not None,
            state=state,
            seconds=max(clock(self.view).values(), default=0.0) if seconds is None else seconds,
            network=Drawn(Markup(), "") if self.view.best is None else drawn(self.view.best),
            tree=Markup(printable(tree_svg(rows))),
            rows=rows,
            several=any(row.own != row.score for row in rows),
            running=[(row, *self._reached(row)) for row in rows if row.state == "running"],
            moves=move_rows(rows),
            drifts=drift_rows(rows),
            mistakes=mistakes_of(self.view),
            comparison=self._compared if self.others else (),
            figures=self.figures,
            facts=fact_tables(self.facts),
            cost_text=cost_text,
        )

    def _reached(self, row: TrialRow) -> tuple[int, float | None]:
        """How far a running trial is: its last step in the ledger, and the loss there."""
        return next(iter(reversed(self.curves.get(row.key, ()))), (0, None))

    def trial(self, key: str) -> str:
        """Return the details of one trial as HTML. Raises UserError if there is no such trial."""
        return details(self.view, self.rows, key, self.curves)

    def whole(self, version: str | None = None, wait: float = 0.0) -> str:
        """Return the page as one file. version, wait: of a page that asks its server for news (`nas.report.serve`);
        without them it stands alone.
        """
        live = version is not None
        return fill(
            "report.html.j2",
            state=self.state,
            main=Markup(self.main()),
            figures=self.figures,
            packed="" if live else packed(self.view, self.rows, self.curves),
            drawing_style=Markup(STYLE),
            plotly=Markup(get_plotlyjs()),
            live=live,
            version=version,
            wait=wait,
        )


def page_of(run: Path, others: Sequence[Compared] = ()) -> Page:
    """Read what the page shows of a run. It takes no lock, so the run may be in progress.

    Raises RunError if `run` is not a run, LedgerDamaged if its record is damaged.
    """
    view, curves = read_with_curves(run)
    return Page(view, read_config(run).config, run_status(run, view=view), curves, others)


def write_report(run: Path, others: Sequence[Compared] = ()) -> Path:
    """Write RUN/report.html atomically and return its path. others: runs to compare it with.

    Raises as `page_of`, and RunError if `run` can't be written to.
    """
    path = run / REPORT
    page = page_of(run, others).whole()
    atomic_write(path, page.encode("utf-8", "backslashreplace"))  # a file's name need not be UTF-8
    return path


def render(view: LedgerView, facts: Mapping[str, Any], state: RunStatus) -> str:
    """Return the page of a run without learning curves."""
    return Page(view, facts, state).whole()


def fact_tables(facts: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return configuration, data, machine and versions as (name, value) rows; nested names are joined by dots."""
    return {
        name: _flat(facts[name])
        for name in ("config", "data", "task", "machine", "versions")
        if facts.get(name)
    }


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        entries = cast(Mapping[str, Any], value)
        return [row for key in entries for row in _flat(entries[key], f"{name}.{key}" if name else str(key))]
    if isinstance(value, list):
        items = [str(item) for item in cast(list[Any], value)]
        more = f" … {len(items) - 20} more" if len(items) > 20 else ""
        return [(name, ", ".join(items[:20]) + more)]
    return [(name, "–" if value is None or value == {} else str(value))]
