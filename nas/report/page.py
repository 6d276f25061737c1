"""RUN/report.html, made from the ledger: one file that works offline in any browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from morphs import graph_from_json, graph_to_svg
from morphs.errors import MorphError
from nas.base.text import cost_text, count, percent, printable, span
from nas.inspect.status import RunStatus, run_status
from nas.ledger import LedgerView, read, read_config
from nas.ledger.files import atomic_write
from nas.ledger.run_files import REPORT
from nas.ledger.scores import called, change_text, value_text
from nas.ledger.types import Kind
from nas.report.charts import figures
from nas.report.tables import clock, drift_rows, move_rows, trial_rows
from nas.report.tree import tree_svg

MAX_DRAWN = 2_000  # nodes; more would take minutes to lay out and be unreadable


def write_report(run: Path) -> Path:
    """Write RUN/report.html atomically and return its path. It takes no lock, so the run may be in progress.

    Raises RunError if `run` is not a run or can't be written to, LedgerDamaged if its record is damaged.
    """
    path = run / REPORT
    view = read(run)
    page = render(view, read_config(run).config, run_status(run, view=view))
    atomic_write(path, page.encode("utf-8", "backslashreplace"))  # a file's name need not be UTF-8
    return path


def render(view: LedgerView, facts: Mapping[str, Any], state: RunStatus) -> str:
    """Return the page. facts: the configuration given to `Ledger.create`. All text from the run is escaped."""
    rows = trial_rows(view)
    moves, drifts = move_rows(rows), drift_rows(rows)
    drawing, text = _drawing(view)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            best=next((row for row in rows if row.best), None),
            seed=next((row for row in reversed(rows) if row.kind == Kind.SEED), None),
            generations=len({row.generation for row in rows if row.kind in (Kind.PARENT, Kind.CHILD)}),
            finished=view.final is not None,
            state=state,
            seconds=max(clock(view).values(), default=0.0) if state.seconds is None else state.seconds,
            drawing=drawing,
            graph_text=text,
            tree=Markup(printable(tree_svg(rows))),
            rows=rows,
            moves=moves,
            drifts=drifts,
            figures=figures(rows, moves, drifts, state.front),
            facts=fact_tables(facts),
            plotly=Markup(get_plotlyjs()),
            cost_text=cost_text,
        )
    )


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


def _drawing(view: LedgerView) -> tuple[Markup, str]:
    """Return the best network as a drawing and as short text; both are empty if there is none yet."""
    best = view.best
    if best is None:
        return Markup(), ""
    try:
        graph = graph_from_json(best.job.graph)
    except MorphError as error:
        return Markup(), f"the graph of trial {best.key} can't be read: {error}"
    if len(graph) > MAX_DRAWN:
        return Markup(), f"the graph of trial {best.key} has {count(len(graph))} nodes, too many to draw"
    return Markup(printable(graph_to_svg(graph))), graph.text()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nas.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_finished,
    )  # fmt: skip
    filters: dict[str, Callable[..., str]] = {
        "percent": percent, "count": count, "span": _span, "drift": _drift, "ratio": _ratio,
        "value": _value, "change": _change, "called": called,
    }  # fmt: skip
    environment.filters.update(filters)
    return environment


def _finished(value: Any) -> Any:
    """Make a text of the page printable; markup is ours."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else span(seconds)


def _drift(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def _ratio(number: float, base: float) -> str:
    """Format `number` / `base` with at least two digits."""
    return f"{number / base:.1f}" if number < 20 * base else count(number / base)


def _value(value: float | None, score: str) -> str:
    return value_text(score, value)


def _change(change: float | None, score: str) -> str:
    return change_text(score, change)
