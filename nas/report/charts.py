"""The report's plotly figures, as plain JSON values; colours are names that the page resolves."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

from nas.base.text import count
from nas.ledger.curves import Points
from nas.ledger.scores import axis_title, called, is_fraction, scale_of, value_text
from nas.ledger.types import Criterion
from nas.policies.front import Front
from nas.report.tables import UNCHANGED, MoveRow, TrialRow

Figure = dict[str, Any]
NO_CURVES: Mapping[str, Points] = MappingProxyType({})
ZERO_DRIFT = 1e-18  # position of an exact zero on a logarithmic axis
FLOAT32_BOUND = 1e-5  # the drift that a float32 network's exact move may show (see morphs.drift)


def figures(
    rows: Sequence[TrialRow],
    moves: Sequence[MoveRow],
    drifts: Sequence[TrialRow],
    front: Front | None = None,
    curves: Mapping[str, Points] = NO_CURVES,
) -> dict[str, Figure]:
    """Return the charts by their element id in the page, without charts that have no point."""
    scored = [row for row in rows if row.value is not None]
    score = next((row.score for row in scored), "accuracy")
    unit, name = _unit(max((row.time or 0.0 for row in scored), default=0.0))
    charts = {
        "curves": curve_chart(rows, curves),
        "time": score_chart(
            scored, lambda row: (row.time or 0.0) / unit, {"title": f"running time ({name})"}, True
        ),
        "params": score_chart(
            scored,
            lambda row: row.params or 0,
            _count_axis("parameters", [row.params or 1 for row in scored]),
            False,
        ),
        "gain": gain_chart(moves, score),
        "drift": drift_chart(drifts),
    }
    if front is not None:
        charts["front"] = front_chart(rows, front)
    return {key: chart for key, chart in charts.items() if chart["data"]}


def score_chart(
    rows: Sequence[TrialRow], at: Callable[[TrialRow], float], axis: dict[str, Any], joined: bool
) -> Figure:
    """Plot the validation score against `at`. joined: draw a line through the best network's ancestors."""
    best = [row for row in rows if row.best]
    line = [row for row in rows if row.lineage and not row.best]
    rest = [row for row in rows if not row.lineage]
    groups = (
        ("children", [row for row in rest if row.kind != "parent"], "circle", "muted", 7),
        (UNCHANGED, [row for row in rest if row.kind == "parent"], "square-open", "muted", 8),
        ("ancestors of the best", line, "circle", "accent", 9),
        ("best network", best, "star", "gold", 16),
    )
    path: Figure = {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "line": {"color": "accent", "width": 2}, "x": [at(row) for row in line + best],
        "y": [_height(row) for row in line + best],
    }  # fmt: skip
    points = [
        _points(name, members, at, symbol, color, size)
        for name, members, symbol, color, size in groups
        if members
    ]
    title = axis_title(rows[0].score) if rows else ""
    layout = {"xaxis": axis, "yaxis": {"title": title}}
    return {"data": ([path] if joined and rows else []) + points, "layout": layout}


def _points(
    name: str, rows: Sequence[TrialRow], at: Callable[[TrialRow], float], symbol: str, color: str, size: int
) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": [at(row) for row in rows],
        "y": [_height(row) for row in rows], "text": [_tip(row) for row in rows],
        "customdata": [row.key for row in rows],
        "hovertemplate": "%{text}<extra></extra>", "marker": {"symbol": symbol, "color": color, "size": size},
    }  # fmt: skip


def curve_chart(rows: Sequence[TrialRow], curves: Mapping[str, Points]) -> Figure:
    """Plot the training loss of every trial against its step in the schedule."""
    known = [row for row in rows if row.key in curves]
    groups: tuple[tuple[str, list[TrialRow], str, float, float], ...] = (
        ("other trials", [r for r in known if not r.lineage and r.state != "running"], "muted", 1.2, 0.9),
        ("ancestors of the best", [r for r in known if r.lineage and not r.best], "accent", 2.2, 1.0),
        ("best network", [r for r in known if r.best], "gold", 2.6, 1.0),
        ("running", [r for r in known if r.state == "running"], "good", 2.2, 1.0),
    )
    data = [
        _lines(name, members, curves, color, width, opacity)
        for name, members, color, width, opacity in groups
        if members
    ]
    layout = {"xaxis": {"title": "step of the schedule"}, "yaxis": {"title": "training loss"}}
    return {"data": data, "layout": layout}


def _lines(
    name: str,
    rows: Sequence[TrialRow],
    curves: Mapping[str, Points],
    color: str,
    width: float,
    opacity: float,
) -> Figure:
    """Plot the curves of several trials as one trace, with gaps between them."""
    points = [(row, *point) for row in rows for point in (*curves[row.key], (None, None))]
    return {
        "type": "scatter", "mode": "lines", "name": name, "line": {"color": color, "width": width},
        "opacity": opacity, "x": [None if step is None else row.start + step for row, step, _ in points],
        "y": [None if loss is None else float(f"{loss:.4g}") for *_, loss in points],
        "customdata": [row.key for row, *_ in points],
        "hovertemplate": "<b>%{customdata}</b> step %{x}, loss %{y}<extra></extra>",
    }  # fmt: skip


def front_chart(rows: Sequence[TrialRow], front: Front) -> Figure:
    """Plot the validation score against cost: a step line through the front and, if their cost is known, the rest."""
    scale, title = {"params": (1, "parameters"), "macs": (1, "multiply-adds"), "latency": (1e3, "ms")}[
        front.objective
    ]
    on_it = {point.trial for point in front.points}
    known = () if front.objective == "latency" else rows  # the latency is stored for the front only
    rest = [row for row in known if row.kind != "final" and row.value is not None and row.key not in on_it]
    others = [_points("dominated", rest, lambda row: getattr(row, front.objective), "circle", "muted", 7)]
    steps: Figure = {
        "type": "scatter", "mode": "lines+markers", "name": "front", "line": {"color": "accent", "shape": "hv"},
        "x": [scale * point.cost for point in front.points],
        "y": [scale_of(front.score) * point.value for point in front.points],
        "text": [f"<b>{point.trial}</b> {value_text(front.score, point.value)}" for point in front.points],
        "customdata": [point.trial for point in front.points],
        "hovertemplate": "%{text}, %{x}<extra></extra>", "marker": {"color": "accent", "size": 9},
    }  # fmt: skip
    layout = {"xaxis": {"title": title, "type": "log"}, "yaxis": {"title": axis_title(front.score)}}
    return {"data": (others if rest else []) + [steps], "layout": layout}


def gain_chart(moves: Iterable[MoveRow], score: Criterion = "accuracy") -> Figure:
    """Plot each move kind's mean gain as a bar, of fractions in percentage points, with whiskers of one standard
    deviation.
    """
    known, scale = [row for row in moves if row.gain is not None][::-1], scale_of(score)
    whiskers = [None if row.deviation is None else scale * row.deviation for row in known]
    unit = "percentage points" if is_fraction(score) else called(score)
    bar: Figure = {
        "type": "bar", "orientation": "h", "y": [escape(row.kind) for row in known],
        "x": [scale * (row.gain or 0.0) for row in known],
        "error_x": {"type": "data", "array": whiskers, "color": "text"},
        "text": [f"n = {row.compared}" for row in known], "textposition": "none",
        "hovertemplate": f"%{{y}}: %{{x:+.3f}} {unit}, %{{text}}<extra></extra>",
        "marker": {"color": ["good" if (row.gain or 0.0) >= 0 else "bad" for row in known]},
    }  # fmt: skip
    layout = {
        "xaxis": {"title": f"mean gain ({unit})"},
        "height": 120 + 34 * len(known),
    }
    return {"data": [bar] if known else [], "layout": layout}


def drift_chart(rows: Sequence[TrialRow]) -> Figure:
    """Plot every child's drift on a logarithmic axis, in a strip per mode and promise, with the float32 bound."""
    strips = [
        (mode, promise)
        for mode in ("eval", "train")
        for promise in dict.fromkeys(row.preserves for row in rows)
    ]
    data = [_strip(rows, *strip, height) for height, strip in enumerate(strips)]
    layout = {
        "xaxis": {
            "title": f"drift (an exact zero is shown at {ZERO_DRIFT:.0e})", "type": "log", "dtick": 3,
            "exponentformat": "power",
        },
        "yaxis": {
            "range": [-0.6, len(strips) - 0.4], "tickvals": list(range(len(strips))), "zeroline": False,
            "ticktext": [f"{mode} mode<br>{promise}" for mode, promise in strips],
        },
        "height": 130 + 52 * len(strips),
        "shapes": [
            {"type": "line", "x0": FLOAT32_BOUND, "x1": FLOAT32_BOUND, "y0": 0, "y1": 1, "yref": "paper",
             "line": {"color": "bad", "dash": "dash", "width": 1.5}}
        ],
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _strip(rows: Sequence[TrialRow], mode: str, promise: str, height: int) -> Figure:
    """Plot the children of one promise in one mode, at slightly different heights so that equal drifts stay visible."""
    found = [
        (row, value)
        for row in rows
        if row.preserves == promise
        and (value := row.drift_eval if mode == "eval" else row.drift_train) is not None
    ]
    return {
        "type": "scatter", "mode": "markers", "showlegend": False,
        "x": [max(value, ZERO_DRIFT) for _, value in found],
        "y": [height + (number % 7 - 3) * 0.07 for number in range(len(found))],
        "text": [f"{row.key}: {value:.1e}<br>{escape('; '.join(row.steps))}" for row, value in found],
        "customdata": [row.key for row, _ in found],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "circle" if mode == "eval" else "diamond-open", "size": 8, "opacity": 0.75,
                   "color": "accent" if promise == "exact" else "gold"},
    }  # fmt: skip


def _height(row: TrialRow) -> float:
    return scale_of(row.score) * (row.value or 0.0)


def _tip(row: TrialRow) -> str:
    what = "<br>".join(map(escape, row.steps)) or escape(row.kind)
    return f"<b>{row.key}</b> {value_text(row.score, row.value)}, {count(row.params)} parameters<br>{what}"


def _count_axis(title: str, values: Sequence[int]) -> dict[str, Any]:
    """Return an axis for counts: logarithmic for a wide range, with ticks at 1, 2, 5 or powers of ten only."""
    if max(values, default=1) < 5 * min(values, default=1):
        return {"title": title}
    low, high = min(values, default=1) / 1.5, max(values, default=1) * 1.5
    ticks = [step * 10**power for power in range(16) for step in (1, 2, 5) if low <= step * 10**power <= high]
    ticks = ticks if len(ticks) <= 7 else [tick for tick in ticks if str(tick).strip("0") == "1"]
    return {"title": title, "type": "log", "tickvals": ticks, "ticktext": [count(tick) for tick in ticks]}


def _unit(longest: float) -> tuple[float, str]:
    return (3600.0, "hours") if longest > 7200 else (60.0, "minutes") if longest > 180 else (1.0, "seconds")
