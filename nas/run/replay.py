"""`nas replay`: a finished run made again, so that others can see that it comes to the same.

The seed decides all but what depended on time: in which order trials ended (where no generation waits for them), which
were cut off, where a budget ended the search, what a latency table said. The ledger has all of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.base.errors import RunError
from nas.base.text import one_line
from nas.ledger import LedgerView
from nas.ledger.types import State, Stopped
from nas.ledger.view import decided

REPLAY = "replay"  # in a run's config.json, so that a replay that was killed is resumed as one
MAX_REASON = 300


@dataclass(frozen=True)
class Replay:
    """What a run did that its configuration doesn't say, by the order in which its trials started.

    of: the run. seen: for each trial after the seed's, the keys of those that ended between the last decision and its
    own; None where generations are waited for. trials: how many were started before the final training, the seed's
    among them. failed: the reason of each that came to nothing: it is not performed again. stopped: why no more were
    started. final_steps: of the final training. latency: its table. digest: what it came to.
    """

    of: str
    seen: tuple[tuple[str, ...], ...] | None
    trials: int
    failed: Mapping[str, str]
    stopped: Stopped
    final_steps: int
    latency: Mapping[str, Any] | None
    digest: str

    def ended(self, started: int) -> frozenset[str] | None:
        """Keys of the trials that the next decision knows as ended, when so many have started; None: all that have."""
        if self.seen is None or started > len(self.seen):
            return None
        return frozenset(key for told in self.seen[:started] for key in told)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        seen = None if self.seen is None else [list(told) for told in self.seen]
        return {**asdict(self), "seen": seen}


def replay_of(run: Path, view: LedgerView, generational: bool) -> Replay:
    """What a finished run did. Raises RunError for one that is not finished."""
    if view.final is None:
        raise RunError(f"replay: {run} is not finished; first go on with: nas resume {run}")
    started = sorted((r for r in view.trials if not r.job.final), key=lambda record: record.number)
    return Replay(
        of=str(run),
        seen=None if generational else tuple(r.job.seen for r in started[1:]),
        trials=len(started),
        failed={r.key: one_line(r.reason or "")[:MAX_REASON] for r in view.trials if r.state is State.FAILED},
        stopped=view.notes.stopped or "generations",
        final_steps=view.final.job.steps,
        latency=view.notes.latency,
        digest=view.digest,
    )


def replay_from(run: Path, described: Mapping[str, Any]) -> Replay | None:
    """What the run is a replay of, as its config.json has it; None where it is none. Raises RunError."""
    kept = described.get(REPLAY)
    if kept is None:
        return None
    try:
        seen: Any = kept["seen"]
        values: dict[str, Any] = {
            **kept,
            "seen": None if seen is None else tuple(tuple(told) for told in seen),
        }
        return Replay(**values)
    except (TypeError, KeyError):
        raise RunError(
            f"{run}: config.json doesn't say what it is a replay of; restore it, or replay anew"
        ) from None


def difference(before: LedgerView, now: LedgerView) -> str | None:
    """The first thing that another run decided or came to otherwise, in words; None where all is the same."""
    for old, new in zip(before.trials, now.trials, strict=False):
        was, is_ = decided(old), decided(new)
        if was != is_:
            name = next(name for name in was if was[name] != is_[name])
            return f"trial {old.key}: {name} was {_brief(was[name])} and is {_brief(is_[name])}"
    if len(before.trials) != len(now.trials):
        return f"there were {len(before.trials)} trials and are {len(now.trials)}"
    return None


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
