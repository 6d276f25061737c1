"""The Pareto front of accuracy against a cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.ledger.types import Criterion, TrialRecord
from nas.ledger.view import LedgerView, rank, score

LATENCY = "latency"  # the objective that needs a table, which the ledger notes


@dataclass(frozen=True)
class FrontPoint:
    """A trial on the front. cost: per image, in the unit of the front's objective; latency in seconds."""

    trial: str
    val_accuracy: float
    cost: float
    params: int
    macs: int


@dataclass(frozen=True)
class Front:
    """The front of a run, cheapest first. objective: params, macs or latency."""

    objective: str
    points: tuple[FrontPoint, ...]


def pareto_front(
    view: LedgerView, price: Callable[[TrialRecord], float], select: Criterion = "accuracy"
) -> tuple[TrialRecord, ...]:
    """The trials of the search that no other equals or beats in both `select` and `price`, cheapest first; of equals
    the earlier.
    """
    best = -math.inf
    found: list[TrialRecord] = []
    searched = view.searched
    order = {record.key: (price(record), -rank(record, select)[0]) for record in searched}
    for record in sorted(searched, key=lambda record: order[record.key]):
        if -order[record.key][1] > best:
            best = -order[record.key][1]
            found.append(record)
    return tuple(found)


def front_of_run(view: LedgerView, config: Mapping[str, Any]) -> Front | None:
    """The front of a run with that configuration; None if it optimizes accuracy alone or has no complete trial."""
    # Runs of older versions have the setting at the top level.
    objective = config.get("policy_settings", config).get("objective", "params")
    price = _price(view, objective)
    if config.get("policy") != "pareto" or price is None or not view.complete:
        return None
    points: list[FrontPoint] = []
    for record in pareto_front(view, price, view.notes.select):
        assert record.result is not None
        facts = score(record), price(record), record.result.params, record.result.macs
        points.append(FrontPoint(record.key, *facts))
    return Front(str(objective), tuple(points))


def _price(view: LedgerView, objective: object) -> Callable[[TrialRecord], float] | None:
    if objective == "latency" and view.notes.latency:
        from nas.policies.latency_table import table_from  # imports torch, which other runs must not wait for

        table = table_from(view.notes.latency)
        return lambda record: table.seconds(record.job.graph)
    if objective in ("params", "macs"):
        name = str(objective)
        return lambda record: float(getattr(record.result, name))
    return None
