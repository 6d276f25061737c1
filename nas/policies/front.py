"""The Pareto front of accuracy against a cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nas.base.errors import LedgerDamaged
from nas.ledger.described import Settings
from nas.ledger.notes import Latencies
from nas.ledger.types import Criterion, TrialRecord
from nas.ledger.view import LedgerView, rank, score

LATENCY = "latency"  # the objective that needs a table, which the ledger notes


@dataclass(frozen=True)
class FrontPoint:
    """A trial on the front. cost: per image, in the unit of the front's objective; latency in seconds."""

    trial: str
    value: float  # the validation score of the task
    cost: float
    params: int
    macs: int


@dataclass(frozen=True)
class Front:
    """The front of a run, cheapest first. objective: params, macs or latency. score: whose values the points have."""

    objective: str
    points: tuple[FrontPoint, ...]
    score: Criterion = "accuracy"


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


def front_of_run(view: LedgerView, config: Settings) -> Front | None:
    """The front of a run with that configuration; None if it optimizes accuracy alone or has no complete trial.

    Raises LedgerDamaged for a graph that can't be read.
    """
    objective = config.policy_settings.get("objective", config.objective or "params")
    price = _price(view, objective)
    if config.policy != "pareto" or price is None or not view.complete:
        return None
    points: list[FrontPoint] = []
    for record in pareto_front(view, price, view.notes.select):
        assert record.result is not None
        facts = score(record), price(record), record.result.params, record.result.macs
        points.append(FrontPoint(record.key, *facts))
    main = view.complete[0].result
    return Front(str(objective), tuple(points), main.main if main is not None else "accuracy")


def _price(view: LedgerView, objective: object) -> Callable[[TrialRecord], float] | None:
    if objective == "latency" and view.notes.latency:
        return _latency_of(view.notes.latency)
    if objective in ("params", "macs"):
        name = str(objective)
        return lambda record: float(getattr(record.result, name))
    return None


def _latency_of(latencies: Latencies) -> Callable[[TrialRecord], float]:
    from morphs.errors import MorphError  # imports torch, which other runs must not wait for
    from nas.policies.latency_table import table_from

    table = table_from(latencies)

    def seconds(record: TrialRecord) -> float:
        try:
            return table.seconds(record.job.graph)
        except MorphError as error:
            fact = f"the graph of trial {record.key} is damaged ({error})"
            raise LedgerDamaged(f"{fact}; restore the run from a copy") from None

    return seconds
