"""The family tree as one SVG element: a column for each generation, its winners in the top rows."""

from collections.abc import Iterable, Sequence
from html import escape

from nas.base.text import clip
from nas.ledger.scores import merit, value_text
from nas.report.tables import TrialRow

COLUMN, ROW, TOP, PILL_W, PILL_H, LEFT = 276, 36, 34, 68, 22, 8
LETTERS = 29  # characters that fit on an edge


def tree_svg(rows: Iterable[TrialRow]) -> str:
    """Draw each trial as a pill with its validation score, and its moves on the edge from its parent.

    The best network's lineage is drawn bold; failed trials are marked ✕, with the reason on the edge. Each pill's
    tooltip has the full moves and reason. Returns "" if there are no trials.
    """
    by_generation: dict[int, list[TrialRow]] = {}
    for row in rows:
        by_generation.setdefault(row.generation, []).append(row)
    if not by_generation:
        return ""
    at: dict[str, tuple[float, float]] = {}
    for column, number in enumerate(sorted(by_generation)):
        for place, row in enumerate(sorted(by_generation[number], key=_order)):
            at[row.key] = (LEFT + column * COLUMN, TOP + place * ROW + ROW / 2)
    width = max(x for x, _ in at.values()) + PILL_W + 8
    height = max(y for _, y in at.values()) + ROW
    listed = [row for number in sorted(by_generation) for row in by_generation[number]]
    listed.sort(key=lambda row: row.lineage)  # the bold line is drawn last, on top of the others
    edges = "".join(_edge(row, at) for row in listed if row.parent in at)
    heads = "".join(
        _head(by_generation[number], LEFT + column * COLUMN)
        for column, number in enumerate(sorted(by_generation))
    )
    pills = "".join(_pill(row, *at[row.key]) for row in listed)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tree" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="group" aria-label="family tree of {len(at)} trials">'
        f"{heads}{edges}{pills}</svg>"
    )


def _order(row: TrialRow) -> tuple[bool, bool, bool, float, int]:
    """Sort the best network's lineage first, then other winners, then by score; failed trials last."""
    return not row.lineage, not row.won, row.state == "failed", -merit(row.score, row.value or 0.0), row.slot


def _head(rows: Sequence[TrialRow], x: float) -> str:
    kinds = {row.kind for row in rows}
    title = (
        "seed" if kinds == {"seed"} else "final" if kinds == {"final"} else f"generation {rows[0].generation}"
    )
    return f'<text class="head" x="{x + PILL_W / 2:.0f}" y="18" text-anchor="middle">{title}</text>'


def _edge(row: TrialRow, at: dict[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = at[row.parent or ""], at[row.key]
    start, bend = x1 + PILL_W, x2 - COLUMN + PILL_W + 44
    curve = f"C{start + 22:.0f} {y1:.0f} {bend - 24:.0f} {y2:.0f} {bend:.0f} {y2:.0f}"
    line = f'<path class="{_style(row)}" d="M{start:.0f} {y1:.0f} {curve} H{x2:.0f}"/>'
    above, below = _words(row)
    texts = f'<text class="move" x="{bend - 4:.0f}" y="{y2 - 5:.0f}">{_clipped(above)}</text>'
    if below:
        kind = "why" if row.state == "failed" else "move"
        texts += f'<text class="{kind}" x="{bend - 4:.0f}" y="{y2 + 13:.0f}">{_clipped(below)}</text>'
    return line + texts


def _clipped(text: str) -> str:
    """A text cut to fit on an edge; all of it is its tooltip."""
    return f"{escape(clip(text, LETTERS))}<title>{escape(text)}</title>"


def _words(row: TrialRow) -> tuple[str, str]:
    """Return the texts above and below an edge."""
    if row.kind == "final":
        return "final training", ""
    if not row.steps:
        return ("unchanged", row.reason) if row.kind == "parent" else (row.kind, row.reason)
    if row.state == "failed":
        return "; ".join(row.steps), row.reason
    return row.steps[0], "; ".join(row.steps[1:])


def _pill(row: TrialRow, x: float, y: float) -> str:
    face = {"failed": "✕ failed", "running": "…"}.get(row.state) or value_text(row.score, row.value, 1)
    face = f"★ {face}" if row.best else face
    tip = "\n".join(filter(None, [f"{row.key} {row.kind}", *row.steps, row.reason]))
    return (
        f'<g class="{_style(row)}" role="button" tabindex="0" data-trial="{row.key}" '
        f'aria-label="trial {row.key}, {row.kind}, {face}"><title>{escape(tip)}</title>'
        f'<rect x="{x:.0f}" y="{y - PILL_H / 2:.0f}" '
        f'width="{PILL_W}" height="{PILL_H}" rx="11"/><text x="{x + PILL_W / 2:.0f}" y="{y + 4:.0f}" '
        f'text-anchor="middle">{face}</text></g>'
    )


def _style(row: TrialRow) -> str:
    names = {"line": row.lineage, "won": row.won, "best": row.best, row.state: row.state != "complete"}
    return " ".join(name for name, holds in names.items() if holds)
