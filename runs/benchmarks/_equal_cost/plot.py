"""Curves as SVG: validation accuracy against cost and against seconds, a row for each budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import mean

from _equal_cost.table import Group, Row, rows

COLOURS = (
    "#000000",
    "#3366aa",
    "#cc3344",
    "#228833",
    "#997700",
    "#8844aa",
    "#33aabb",
    "#dd7733",
    "#777777",
    "#aa5588",
)
WIDTH, HEIGHT, LEFT, TOP, GAP, LEGEND = 330, 200, 44, 22, 60, 190
GRID = 80  # points along an axis
AXES = ((0, "cost, in budgets"), (1, "wall seconds"))

Line = list[tuple[float, float]]


def curves(data: str, groups: Mapping[str, Group]) -> str:
    """The curves on one data set, of the variants chosen by validation. groups: records by budget."""
    shown = {
        budget: [row for row in rows(group) if "median" not in row.name] for budget, group in groups.items()
    }
    names = list(dict.fromkeys(row.name for lines in shown.values() for row in lines))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    width = 2 * (LEFT + WIDTH) + GAP // 2 + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(shown) * (HEIGHT + GAP) + TOP}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, (budget, lines) in enumerate(shown.items()):
        for axis, unit in AXES:
            drawn = {row.name: average(row, axis) for row in lines}
            drawn = {name: line for name, line in drawn.items() if line}
            title = f"{data}, {budget} budget" if axis == 0 else ""
            at = (axis * (LEFT + WIDTH + GAP // 2), i * (HEIGHT + GAP))
            least = 1.0 if axis == 0 else 0.0
            parts += _panel(drawn, colours, least, f"{unit}; vertical: validation accuracy, %", title, at)
    for i, name in enumerate(names):
        x, y = width - LEGEND + 12, TOP + 12 + 16 * i
        parts.append(f'<text x="{x}" y="{y}" fill="{colours[name]}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def average(row: Row, axis: int) -> Line:
    """The arm's curve, its seeds averaged where all of them have a value. axis: 0 cost in budgets, 1 seconds."""
    each = [
        [(p[axis] / (record["budget_cost"] if axis == 0 else 1), p[2]) for p in record["curve"]]
        for record in row.records.values()
        if axis == 1 or record["by_purpose"]
    ]
    if not each:
        return []
    right = mean(line[-1][0] for line in each)
    left = max(line[0][0] for line in each)
    along = [left + (right - left) * i / GRID for i in range(GRID + 1)] if right > left else [right]
    return [(x, mean(_at(line, x) for line in each)) for x in along]


def _at(line: Sequence[tuple[float, float]], x: float) -> float:
    """The latest value that was known at x."""
    return next((y for known, y in reversed(line) if known <= x), line[0][1])


def _panel(
    lines: Mapping[str, Line],
    colours: Mapping[str, str],
    least: float,
    unit: str,
    title: str,
    at: tuple[int, int],
) -> list[str]:
    x0, y0 = LEFT + at[0], TOP + at[1]
    parts = [
        f'<path d="M{x0},{y0}V{y0 + HEIGHT}H{x0 + WIDTH}" fill="none" stroke="#444"/>',
        f'<text x="{x0}" y="{y0 - 8}" font-weight="bold">{escape(title)}</text>',
        f'<text x="{x0 + WIDTH / 2}" y="{y0 + HEIGHT + 30}" text-anchor="middle">{escape(unit)}</text>',
    ]
    if not lines:
        return parts
    right = max(least, *(line[-1][0] for line in lines.values()))
    late = [y for line in lines.values() for x, y in line if x >= right / 4] or [0.0]
    low, high = min(late), max(late) + 1e-3
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)

    def place(x: float, y: float) -> str:
        down = (high - min(high, max(low, y))) / (
            high - low
        )  # what is early and far below stays in the panel
        return f"{x0 + WIDTH * x / right:.1f},{y0 + HEIGHT * down:.1f}"

    for i in range(5):
        y, x = low + (high - low) * i / 4, right * i / 4
        down, along = y0 + HEIGHT * (4 - i) / 4, x0 + WIDTH * i / 4
        parts.append(f'<text x="{x0 - 5}" y="{down + 4}" text-anchor="end">{100 * y:.1f}</text>')
        parts.append(f'<text x="{along}" y="{y0 + HEIGHT + 14}" text-anchor="middle">{x:.3g}</text>')
    for name, line in lines.items():
        points = " ".join(place(x, y) for x, y in line)
        thick = 2.4 if name == "engine" else 1.3
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="{thick}"/>'
        )
    return parts
