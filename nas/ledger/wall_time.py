"""Wall time of a run and its trials, from its ledger, in seconds."""

from nas.ledger.types import Result
from nas.ledger.view import LedgerView


def seconds_of(result: Result) -> float:
    """Wall seconds of one trial's work."""
    return sum(value for name, value in result.seconds.items() if not name.startswith("busy_"))


def seconds_of_last_evaluation(result: Result) -> float:
    """Seconds for scoring the final network, by what a trial of the same network took: it is scored on the test split
    too, which often has twice as many examples as the validation split.
    """
    return 3 * result.seconds.get("evaluate", 0.0)


def overhead(view: LedgerView, wall: float) -> float:
    """The share of `wall` seconds in which no child was training or being evaluated."""
    spans = sorted(
        (trial.result.seconds["busy_from"], trial.result.seconds["busy_to"])
        for trial in view.complete
        if trial.result is not None and {"busy_from", "busy_to"} <= trial.result.seconds.keys()
    )
    busy, reached = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return max(0.0, 1 - busy / wall) if wall > 0 else 0.0
