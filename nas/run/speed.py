"""How fast this machine is now, measured on the run itself: what is begun must fit into what is left of a budget."""

from __future__ import annotations

from nas.ledger import LedgerView, TrialRecord
from nas.ledger.wall_time import seconds_of, seconds_of_last_evaluation

CLOSING = 2.0  # seconds on an idle machine for evaluating, storing and reporting the final network
MOST_CLOSING = 0.25  # of the budget: imports from a cold disk take longer than that


def seconds_a_step(view: LedgerView, of: TrialRecord) -> float:
    """Seconds of a training step of the trial's network: its own trial's, or those of the last trial of the same
    architecture, which trained later, where these are more: the machine may have become busier.
    """
    alike = [r for r in view.complete if r.job.graph == of.job.graph and r.result is not None and r.job.steps]
    last = max(alike, key=lambda record: record.finished or 0.0, default=of)
    return max(_rate(of), _rate(last))


def closing_seconds(startup: float, budget: float | None) -> float:
    """Seconds of a budget to keep for what follows the final training. startup: those of imports, which take about the
    same processor time, so that they show how busy the machine is; reading and checking much data does not.
    """
    return max(CLOSING, startup if budget is None else min(startup, MOST_CLOSING * budget))


def seconds_after(of: TrialRecord, startup: float, budget: float | None, left: float) -> float:
    """Seconds of a budget to keep for what follows the last step of a final training of the trial's network: at most
    half of what is `left`, so that it is trained also where a cold disk made the start take most of the budget.

    startup: see `closing_seconds`.
    """
    assert of.result is not None
    after = seconds_of_last_evaluation(of.result) + closing_seconds(startup, budget)
    return min(after, max(0.0, left) / 2)


def seconds_of_next(view: LedgerView, generation: int) -> float:
    """Estimated seconds of one more trial of a generation: those of its slowest trial so far; 0 if none has ended."""
    ended = (record.result for record in view.generation(generation) if record.result is not None)
    return max(map(seconds_of, ended), default=0.0)


def _rate(record: TrialRecord) -> float:
    assert record.result is not None
    return record.result.seconds.get("train", 0.0) / max(1, record.steps)
