"""What a click on a trial shows: its network with what changed marked, its curve, its drift and what it earned."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from morphs import ArchGraph, graph_from_json, graph_to_svg
from morphs.errors import MorphError
from morphs.graph.draw import changes
from nas.base.text import count, printable
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.curves import Points
from nas.report.tables import TrialRow
from nas.report.templates import fill

MAX_DRAWN = 2_000  # nodes of one network; more would take minutes to lay out and be unreadable
ALL_DRAWN = 8_000  # nodes of all the networks that one page holds
WIDTH, HEIGHT = 560, 130  # of a curve, in pixels


@dataclass(frozen=True)
class Drawn:
    """A network: its drawing and its text, or why there is none. gone: layers that its parent had and it has not."""

    svg: Markup
    text: str
    new: int = 0
    changed: int = 0
    gone: tuple[str, ...] = ()


def drawn(record: TrialRecord, parent: TrialRecord | None = None) -> Drawn:
    """Draw the network of a trial; what is new or changed since `parent` is marked."""
    try:
        graph = graph_from_json(record.job.graph)
        before = None if parent is None else graph_from_json(parent.job.graph)
    except MorphError as error:
        return Drawn(Markup(), f"the graph of trial {record.key} can't be read: {error}")
    if len(graph) > MAX_DRAWN:
        return Drawn(
            Markup(), f"the graph of trial {record.key} has {count(len(graph))} nodes, too many to draw"
        )
    marks = list(changes(before, graph).values()) if before is not None else []
    svg = Markup(printable(graph_to_svg(graph, before, style=False)))
    return Drawn(svg, graph.text(), marks.count("new"), marks.count("changed"), _gone(before, graph))


def _gone(before: ArchGraph | None, after: ArchGraph) -> tuple[str, ...]:
    left = {node.name for node in after}
    return () if before is None else tuple(node.name for node in before if node.name not in left)


def details(
    view: LedgerView, rows: Sequence[TrialRow], key: str, curves: Mapping[str, Points], draw: bool = True
) -> str:
    """The details of one trial as HTML. Raises UserError if there is no such trial."""
    record = view.trial(key)
    row = next(row for row in rows if row.key == key)
    parent = next((other for other in rows if other.key == row.parent), None)
    rivals = [r.key for r in rows if r.generation == row.generation and r.key != key]
    before = next((trial for trial in view.trials if trial.key == row.parent), None)
    return fill(
        "trial.html.j2",
        row=row,
        parent=parent,
        mistakes=None,
        network=drawn(record, before) if draw else None,
        curve=Markup(curve_svg(curves.get(key, ()), [curves[k] for k in rivals if k in curves])),
        points=curves.get(key, ()),
    )


def packed(view: LedgerView, rows: Sequence[TrialRow], curves: Mapping[str, Points]) -> str:
    """The details of every trial for a page that stands alone: JSON, deflated, in base64.

    Networks are drawn as far as ALL_DRAWN goes: the best one's ancestors first, then winners, then
    others, newest first.
    """
    size = {record.key: record.job.graph.count('"kind"') + 1 for record in view.trials}
    left, chosen = ALL_DRAWN, set[str]()
    for row in sorted(rows, key=lambda row: (not row.lineage, not row.won, -row.generation, row.slot)):
        left -= size[row.key]
        if left >= 0:
            chosen.add(row.key)
    pages = {row.key: details(view, rows, row.key, curves, row.key in chosen) for row in rows}
    return base64.b64encode(zlib.compress(json.dumps(pages).encode(), 9)).decode()


def curve_svg(points: Points, rivals: Iterable[Points] = ()) -> str:
    """The training loss of a trial as a small chart; those of its rivals are faint. "" without points."""
    others = [list(points) for points in rivals if len(points) > 1]
    if len(points) < 2:
        return ""
    everything = [point for line in (points, *others) for point in line]
    last = max(step for step, _ in everything)
    low, high = min(loss for _, loss in everything), max(loss for _, loss in everything)
    span = high - low or 1.0

    def path(line: Points, name: str) -> str:
        places = (
            f"{4 + (WIDTH - 8) * step / last:.1f} {4 + (HEIGHT - 8) * (high - loss) / span:.1f}"
            for step, loss in line
        )
        return f'<path class="{name}" d="M{"L".join(places)}"/>'

    lines = "".join(path(line, "rival") for line in others)
    label = f"training loss, from {points[0][1]:.3g} to {points[-1][1]:.3g} at step {points[-1][0]}"
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{lines}{path(points, 'own')}</svg>"
    )
