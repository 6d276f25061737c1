"""How a run stands, in words: the rows that the command line and a notebook show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.base.text import cost_text, count, percent, plural, size, span
from nas.ledger.scores import called, value_text

if TYPE_CHECKING:
    from nas.inspect.status import RunStatus
    from nas.policies.front import Front

FRONT_ROWS = 20  # networks of a front that are listed


def status_rows(found: RunStatus) -> list[tuple[str, str]]:
    """A run, seen closely: names and values."""
    of = f" of {found.generations}" if found.generations is not None else ""
    generation = "none yet" if found.generation is None else f"{found.generation}{of}"
    trials = f"{found.complete} complete, {found.failed} failed, {found.running} running"
    if found.running and found.driver is None:
        trials = trials.replace("running", "to run again")
    budget = f" of {span(found.budget)}" if found.budget is not None else ""
    rows = [
        ("run", found.run),
        ("state", _state(found)),
        ("search", f"{found.space} on {found.data}, seed {found.seed}"),
        *([("continues", found.after)] if found.after is not None else []),
        ("generation", generation),
        ("trials", trials),
    ]
    if found.best_trial is not None:
        what = f" ({found.best_moves})" if found.best_moves else ""
        rows += [
            ("best trial", f"{found.best_trial}{what}"),
            *validation_rows(found),
            (f"test {called(found.score)}", value_text(found.score, found.test_score)),
            ("parameters", count(found.best_params)),
        ]
    rows += verdict_rows(found.beside, found.remarks)
    if found.front is not None:
        rows += front_rows(found.front)
    if found.seconds is not None:
        rows += [
            ("wall time", f"{span(found.seconds)}{budget}"),
            ("engine overhead", overhead_text(found.overhead)),
        ]
    kept = f"{plural(found.checkpoints, 'checkpoint')} ({size(found.checkpoint_bytes)}) kept"
    kept += f", {count(found.removed)} removed (--keep {found.keep})" if found.keep != "all" else ""
    rows += [("on disk", f"{size(found.disk_bytes)}, {kept}")]
    rows += [("problem", found.problem)] if found.problem is not None else []
    rows += [("command", found.command)] if found.command else []
    rows += [("next", found.next)]
    return rows


def verdict_rows(beside: str | None, remarks: Sequence[str]) -> list[tuple[str, str]]:
    """What a finished search is compared with, and what there is to say about it."""
    rows = [("beside", beside)] if beside is not None else []
    return rows + [("note" if number == 0 else "", text) for number, text in enumerate(remarks)]


def validation_rows(found: RunStatus) -> list[tuple[str, str]]:
    """The best trial's validation scores: the one that selects, which is named, the task's own, and the loss."""
    loss = "–" if found.best_val_loss is None else f"{found.best_val_loss:.4f}"
    values = {
        found.select: value_text(found.select, found.best_value),
        found.score: value_text(found.score, found.best_score),
        "loss": loss,
    }
    return [
        (f"validation {called(which)}", f"{value} (selects)" if which == found.select else value)
        for which, value in values.items()
    ]


def _state(found: RunStatus) -> str:
    """How a run stands, and who drives it."""
    if found.driver is None:
        return found.state
    if found.state == "silent":
        return f"{found.driver} holds the lease and gives no sign of life; another driver takes it over after a while"
    lease = f", whose lease holds until {found.until} at least" if found.until else ""
    return f"{found.state}, by {found.driver}{lease}"


def front_rows(found: Front) -> list[tuple[str, str]]:
    """The front, one network a line, cheapest first."""
    named = {"params": "parameters", "macs": "multiply-adds", "latency": "latency"}[found.objective]
    lines = [
        f"{point.trial:<6} {value_text(found.score, point.value)}  {cost_text(found.objective, point.cost)}"
        for point in found.points[:FRONT_ROWS]
    ]
    if len(found.points) > FRONT_ROWS:
        lines.append(f"… {len(found.points) - FRONT_ROWS} more in the report")
    names = [f"front by {named}", *[""] * (len(lines) - 1)]
    return list(zip(names, lines, strict=True))


def overhead_text(share: float | None) -> str:
    """The engine's overhead, in words that need no page beside them."""
    return f"{percent(share, 1)} of the wall time, in which nothing trained or was evaluated"
