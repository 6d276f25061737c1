"""Learning curves: the training loss at some steps of a trial, kept as the intermediate values of its Optuna trial.

They are for people to look at, and decide nothing: they are not part of the digest, and a crash may lose the last few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import TableClause
    from sqlalchemy.engine import Connection

Points = Sequence[tuple[int, float]]  # (step, training loss), steps ascending
FINITE = "FINITE"  # Optuna's name for the kind of a value


def _table() -> TableClause:
    from sqlalchemy import column, table

    names = ("trial_id", "step", "intermediate_value", "intermediate_value_type")
    return table("trial_intermediate_values", *map(column, names))


def add_points(connection: Connection, trial: int, points: Points) -> None:
    """Add points to the curve of the trial with that id. Those of an earlier attempt, from the first step on, go."""
    if not points:
        return
    values = _table()
    connection.execute(values.delete().where(values.c.trial_id == trial, values.c.step >= points[0][0]))
    rows: list[dict[str, Any]] = [
        {"trial_id": trial, "step": step, "intermediate_value": loss, "intermediate_value_type": FINITE}
        for step, loss in points
    ]
    connection.execute(values.insert(), rows)


def curves_of(connection: Connection, study: int) -> Mapping[int, tuple[tuple[int, float], ...]]:
    """The curves of a study's trials, by their number."""
    from sqlalchemy import column, select, table

    values, trials = _table(), table("trials", *map(column, ("trial_id", "study_id", "number")))
    wanted = select(trials.c.number, values.c.step, values.c.intermediate_value).order_by(values.c.step)
    joined = wanted.join(values, trials.c.trial_id == values.c.trial_id)
    known = trials.c.study_id == study, values.c.intermediate_value_type == FINITE
    found: dict[int, list[tuple[int, float]]] = {}
    for number, step, loss in connection.execute(joined.where(*known)):
        found.setdefault(int(number), []).append((int(step), float(loss)))
    return {number: tuple(points) for number, points in found.items()}
