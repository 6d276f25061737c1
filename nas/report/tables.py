"""The tables and points of the report, from the ledger's view: pure functions, no HTML.

Scores and gains are in their own unit, accuracies as fractions;
times are seconds, drifts are relative (see `morphs.Drift`).
"""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from statistics import fmean, stdev

from morphs import Move, Preserves, parse
from morphs.errors import MorphError
from morphs.textform import format_call, split
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.scores import chosen
from nas.ledger.types import Criterion, Kind, State
from nas.ledger.view import rank, worth
from nas.ledger.wall_time import seconds_of
from nas.policies.judge import advantage

UNCHANGED = "unchanged parent"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class TrialRow:
    """One trial, as shown in the report."""

    key: str
    generation: int
    slot: int
    kind: str
    parent: str | None
    moves: str
    steps: tuple[str, ...]  # the moves in short form, one by one
    state: str
    reason: str
    won: bool  # it is a parent of the next generation, or the last generation's best
    lineage: bool  # it is the best trial or one of its ancestors
    best: bool
    time: float | None  # running time of the search when it ended
    score: Criterion = "accuracy"  # the one that selects
    value: float | None = None  # the validation score that selects
    own: Criterion = "accuracy"  # the task's own score
    own_value: float | None = None
    loss: float | None = None  # on the validation split
    train_loss: float | None = None  # the last
    start: int = 0  # where its training begins in the schedule, in steps
    planned: int = 0  # steps
    gain: float | None = None  # over the unchanged parent of its generation; positive is better
    gain_error: float | None = None  # its standard error, paired over the validation images; None: not known
    params: int | None = None
    macs: int | None = None
    seconds: float | None = None  # in total
    train_seconds: float = 0.0
    drift_eval: float | None = None
    drift_train: float | None = None
    preserves: str = UNKNOWN  # the weakest promise that its moves declare


@dataclass(frozen=True)
class MoveRow:
    """Cost and gain of one kind of move. A child made by several kinds counts once for each."""

    kind: str
    proposed: int  # children
    failed: int
    won: int
    compared: int  # children with a gain
    gain: float | None  # mean
    deviation: float | None  # of the gains; None below two
    seconds: float  # of training, a child's split evenly over its moves


def trial_rows(view: LedgerView) -> tuple[TrialRow, ...]:
    """Return a row for every trial, in the ledger's order."""
    won, times = winners(view), clock(view)
    best = view.best
    line = lineage(view, best)
    return tuple(
        _row(view, record, record.key in won, record.key in line, record is best, times.get(record.key))
        for record in view.trials
    )


def move_rows(rows: Iterable[TrialRow]) -> tuple[MoveRow, ...]:
    """Return a row for each kind of move, most proposed first, and one for the unchanged parents."""
    found: dict[str, list[tuple[TrialRow, float]]] = {}
    for row in rows:
        kinds = [kind_of(step) for step in row.steps] if row.kind == Kind.CHILD else []
        for kind in dict.fromkeys(kinds):
            found.setdefault(kind, []).append((row, kinds.count(kind) / len(kinds)))
        if row.kind == Kind.PARENT:
            found.setdefault(UNCHANGED, []).append((row, 1.0))
    table = [_move_row(kind, uses) for kind, uses in found.items()]
    return tuple(sorted(table, key=lambda row: (row.kind == UNCHANGED, -row.proposed, row.kind)))


def drift_rows(rows: Iterable[TrialRow]) -> tuple[TrialRow, ...]:
    """Return the children whose drift was measured."""
    return tuple(row for row in rows if row.drift_eval is not None and row.steps)


# -- who won, and when -------------------------------------------------------------------------------


def winners(view: LedgerView) -> frozenset[str]:
    """Return the keys of the next generations' parents and, for the last complete generation, of its best trial."""
    named = {record.job.parent for record in view.trials}
    won: set[str] = set()
    for number in {record.job.generation for record in view.trials}:
        rivals = [record for record in view.generation(number) if not record.job.final]
        chosen = {record.key for record in rivals if record.key in named}
        complete = [record for record in rivals if record.state is State.COMPLETE]
        if not chosen and complete and not any(record.running for record in rivals):
            best = view.incumbent
            if best is None or best not in complete:
                best = max(complete, key=lambda record: rank(record, view.notes.select))
            chosen = {best.key}
        won |= chosen
    return frozenset(won)


def lineage(view: LedgerView, record: TrialRecord | None) -> frozenset[str]:
    """Return the keys of `record` and all its ancestors."""
    known = {trial.key: trial for trial in view.trials}
    keys: set[str] = set()
    while record is not None and record.key not in keys:
        keys.add(record.key)
        record = known.get(record.job.parent or "")
    return frozenset(keys)


def clock(view: LedgerView) -> dict[str, float]:
    """Return, for each ended trial, the running time at its end: the seconds in which at least one trial ran.

    So neither the time between a stop and a resume counts, nor the engine's own time between generations.
    """
    spans = {record.key: span for record in view.trials if (span := _span(record)) is not None}
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans.values()):
        if merged and start <= merged[-1][1]:
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, end))
    return {
        key: sum(min(stop, end) - start for start, stop in merged if start < end)
        for key, (_, end) in spans.items()
    }


def _span(record: TrialRecord) -> tuple[float, float] | None:
    """Return when an ended trial ran, in seconds since the epoch; for a repeated one from its last known start."""
    if record.finished is None:
        return None
    seconds = record.result.seconds if record.result else {}
    return seconds.get("busy_from", record.started), seconds.get("busy_to", record.finished)


# -- rows --------------------------------------------------------------------------------------------


def _row(
    view: LedgerView, record: TrialRecord, won: bool, lineage: bool, best: bool, time: float | None
) -> TrialRow:
    job, result = record.job, record.result
    texts = split(job.moves, ";")
    row = TrialRow(
        record.key, job.generation, job.slot, job.kind, job.parent, job.moves, tuple(map(short, texts)),
        record.state, record.reason or "", won, lineage, best, time, preserves=_declared(texts),
        start=job.training.start, planned=record.steps,
        train_seconds=record.finished - record.started if record.finished and not result else 0.0,
    )  # fmt: skip
    if result is None:
        return row
    gain, gain_error = _gain(view, record)
    which, value = chosen(result.scores, view.notes.select, result.main)
    return replace(
        row,
        score=which,
        value=value,
        own=result.main,
        own_value=result.value,
        loss=result.scores.get("val_loss"),
        train_loss=result.scores.get("train_loss"),
        gain=gain,
        gain_error=gain_error,
        params=result.params,
        macs=result.macs,
        seconds=seconds_of(result),
        train_seconds=result.seconds.get("train", 0.0),
        drift_eval=result.drift_eval,
        drift_train=result.drift_train,
    )


def _gain(view: LedgerView, record: TrialRecord) -> tuple[float | None, float | None]:
    """Return by how much a child's score that selects is better than that of its unchanged parent, trained further at
    the same cost, and the standard error of that difference, known of accuracies and losses.
    """
    if record.job.kind is not Kind.CHILD or record.result is None:
        return None, None
    for rival in view.generation(record.job.generation):
        if rival.job.kind is Kind.PARENT and rival.job.parent == record.job.parent and rival.result:
            select = chosen(record.result.scores, view.notes.select, record.result.main)[0]
            found = advantage(record, rival, select) if select in ("accuracy", "loss") else None
            return worth(record, select) - worth(rival, select), None if found is None else found.error
    return None, None


def _move_row(kind: str, uses: list[tuple[TrialRow, float]]) -> MoveRow:
    gains = [row.gain for row, _ in uses if row.gain is not None]
    return MoveRow(
        kind=kind,
        proposed=len(uses),
        failed=sum(row.state == State.FAILED for row, _ in uses),
        won=sum(row.won for row, _ in uses),
        compared=len(gains),
        gain=fmean(gains) if gains else None,
        deviation=stdev(gains) if len(gains) > 1 else None,
        seconds=sum(row.train_seconds * share for row, share in uses),
    )


# -- moves in short form -----------------------------------------------------------------------------


def kind_of(step: str) -> str:
    """Return the name of a move from its text."""
    return step.partition("(")[0].strip()


def short(text: str) -> str:
    """Return a move's text without default values, `deepen(node=r1, kernel=[3, 3])`, which `nas morph` takes; an
    unknown move's text is unchanged.
    """
    move = _parsed(text)
    if move is None:
        return text.strip()
    told = [
        field
        for field in fields(move)
        if field.default is MISSING or getattr(move, field.name) != field.default
    ]
    return format_call(move.name, [], {field.name: getattr(move, field.name) for field in told})


def _declared(texts: list[str]) -> str:
    """Return the weakest promise that any of these moves declares."""
    moves = [_parsed(text) for text in texts]
    if not moves or None in moves:
        return UNKNOWN
    order = list(Preserves)
    return max((move.preserves for move in moves if move), key=order.index).value


@lru_cache(maxsize=2**13)  # each text is parsed for its short form and for its promise
def _parsed(text: str) -> Move | None:
    try:
        return parse(text)
    except MorphError:
        return None
