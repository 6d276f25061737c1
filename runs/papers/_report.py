"""The table, the curves and the figures of the paper runs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import mean, stdev
from typing import Any

from _arms import Arm
from _common import Figure, figure

Record = dict[str, Any]
COLOURS = ("#3366aa", "#cc3344", "#228833", "#997700", "#8844aa", "#33aabb", "#777777", "#dd7733")
WIDTH, HEIGHT, LEFT, TOP, LEGEND = 460, 260, 50, 14, 250


def of_arm(rows: Sequence[Record], name: str) -> list[Record]:
    """The arm's results, by seed."""
    return sorted((row for row in rows if row["arm"] == name), key=lambda row: row["seed"])


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation in percent."""
    percent = [100 * value for value in values]
    return f"{mean(percent):.2f}" + (f" ± {stdev(percent):.2f}" if len(percent) > 1 else "")


def table(rows: Sequence[Record], arms: Sequence[Arm]) -> str:
    """A line for each arm: mean and spread of the test accuracy beside the paper's."""
    lines = [
        "| network | parameters | multiply-adds | epochs | drift | test accuracy, % | n | paper, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        found = of_arm(rows, arm.name)
        if found:
            one = found[0]
            drift = f"{max(row['drift'] for row in found):.0e}" if arm.after else ""
            lines.append(
                f"| {arm.name} | {one['params']:,} | {one['macs'] / 1e6:.3g} M | {one['epochs']:.3g} | {drift} "
                f"| {spread([row['test'] for row in found])} | {len(found)} | {arm.paper or ''} |"
            )
    return "\n".join(lines)


def figures(rows: Sequence[Record]) -> list[Figure]:
    """The paper's claims as figures: what was reached, and that NetMorph is better than its rivals."""
    made: list[Figure] = []
    for name, target in (
        ("MLP PReLU, NetMorph", ">= 97"), ("MLP PTanH, NetMorph", ">= 97"),
        ("cifar_211, NetMorph", ">= 82.06"), ("cifar_222, NetMorph", ">= 82.43"),
        ("cifar_2222, NetMorph", ">= 83.14"), ("cifar_3333, NetMorph", ">= 84"),
        ("cifar_ksize, NetMorph", ">= 82.81"), ("cifar_width, NetMorph", ">= 83.09"),
    ):  # fmt: skip
        if found := of_arm(rows, name):
            made.append(
                figure(f"{name}: test accuracy, mean", mean(100 * row["test"] for row in found), "%", target)
            )
    for better, worse in (
        ("MLP PReLU, NetMorph", "MLP PReLU, Net2Net, equal shares"),
        ("cifar_211, NetMorph", "cifar_211, Net2Net"), ("cifar_222, NetMorph", "cifar_222, Net2Net"),
        ("cifar_211, NetMorph", "cifar_211 from scratch"), ("cifar_222, NetMorph", "cifar_222 from scratch"),
        ("cifar_222, NetMorph", "cifar_111, trained on"),
        ("cifar_2222, NetMorph", "cifar_222, NetMorph"), ("cifar_2222, NetMorph", "cifar_2222 from scratch"),
        ("cifar_3333, NetMorph", "cifar_2222, NetMorph"), ("cifar_3333, NetMorph", "cifar_3333 from scratch"),
        ("cifar_3333, NetMorph", "cifar_222, trained on"),
        ("cifar_ksize, NetMorph", "cifar_base"), ("cifar_ksize, NetMorph", "cifar_ksize from scratch"),
        ("cifar_ksize, NetMorph", "cifar_base, trained on"),
        ("cifar_width, NetMorph", "cifar_width, Net2Net"), ("cifar_width, NetMorph", "cifar_width from scratch"),
        ("cifar_width, NetMorph", "cifar_ksize, trained on"),
        ("cifar_base TanH, wider, NetMorph", "cifar_base TanH"),
        ("cifar_base TanH, wider, NetMorph", "cifar_base TanH, trained on"),
    ):  # fmt: skip
        pairs = [
            (one["test"], other["test"])
            for one in of_arm(rows, better) for other in of_arm(rows, worse) if one["seed"] == other["seed"]
        ]  # fmt: skip
        if pairs:
            gained = mean(100 * (one - other) for one, other in pairs)
            made.append(figure(f"{better} minus {worse}, n = {len(pairs)}", gained, "points", "> 0"))
    made += ratios(rows)
    if rows:
        made.append(figure("drift of a morph, most", max(row["drift"] for row in rows), "", "<= 1e-5"))
    return made


def ratios(rows: Sequence[Record]) -> list[Figure]:
    """Section 4.4: how many times the grown network's cost its rivals need to reach its validation accuracy."""

    def reached(name: str) -> float | None:
        found = of_arm(rows, name)
        return mean(row["curve"][-1][1] for row in found) if found else None

    made, aim = list[Figure](), reached("VGG16, NetMorph")
    for rival in ("VGG16, trained on", "grown VGG16 from scratch"):
        tried = {k: value for k in (1, 2, 4, 8, 16) if (value := reached(f"{rival}, {k} times")) is not None}
        if aim is None or not tried:
            continue
        enough = [k for k, value in tried.items() if value >= aim]
        if enough:
            made.append(
                figure(
                    f"{rival}: reaches the grown network's accuracy at", min(enough), "times its cost", None
                )
            )
        else:
            made.append(
                figure(f"{rival}: below the grown network's accuracy at", max(tried), "times its cost", None)
            )
    return made


def curves(rows: Sequence[Record]) -> str:
    """Validation accuracy against training cost since the arm's start, seeds averaged, as SVG."""
    names = list(dict.fromkeys(row["arm"] for row in rows))
    lines = {name: average(of_arm(rows, name)) for name in names}
    right = max(x for line in lines.values() for x, _ in line)
    values = [y for line in lines.values() for x, y in line if x > 0]
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)

    def place(x: float, y: float) -> str:
        shown = max(low, y)  # networks from scratch start far below
        return f"{LEFT + WIDTH * x / right:.1f},{TOP + HEIGHT * (high - shown) / (high - low):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + LEGEND} {TOP + HEIGHT + 40}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="100%" height="100%" fill="white"/><path d="M{LEFT},{TOP}V{TOP + HEIGHT}H{LEFT + WIDTH}" '
        'fill="none" stroke="#444"/>',
    ]
    for i in range(5):
        y = low + (high - low) * i / 4
        _, down = place(0, y).split(",")
        parts.append(f'<text x="{LEFT - 6}" y="{down}" text-anchor="end">{100 * y:.1f}</text>')
        along = LEFT + WIDTH * i / 4
        parts.append(
            f'<text x="{along}" y="{TOP + HEIGHT + 15}" text-anchor="middle">{right * i / 4:.3g}</text>'
        )
    parts.append(
        f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 32}" text-anchor="middle">training cost since the arm began, '
        "10¹² forward multiply-adds; vertical: validation accuracy, %, mean over seeds</text>"
    )
    for i, (name, line) in enumerate(lines.items()):
        colour, points = COLOURS[i % len(COLOURS)], " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(
            f'<text x="{LEFT + WIDTH + 12}" y="{TOP + 14 + 16 * i}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def average(rows: Sequence[Record]) -> list[tuple[float, float]]:
    """(training cost in 10¹² multiply-adds, accuracy) of an arm's curve, over its seeds."""
    batch = rows[0].get("batch", 100)
    columns = zip(*(row["curve"] for row in rows), strict=True)
    return [(column[0][0] * batch * rows[0]["macs"] / 1e12, mean(y for _, y in column)) for column in columns]
