"""`nas replay`: repeats a finished run, so that others can verify its results.

The seed decides everything except what depended on time: the order in which trials ended (for policies without
generations), which trials were cut off, where a budget ended the search, what it made of the length of the final
training, and the latency table. The ledger has these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from nas.base.errors import RunError
from nas.base.text import nas_command, one_line
from nas.ledger import LedgerView
from nas.ledger.described import Described
from nas.ledger.notes import Latencies
from nas.ledger.types import RECORD, Count, Digest, Key, Lengths, State, Stopped, validated
from nas.ledger.view import decided

REPLAY = "replay"  # the key in a run's config.json, so that a killed replay is resumed as a replay
MAX_REASON = 300


@dataclass(frozen=True, config=RECORD)
class Replay:
    """What a run did that its configuration doesn't determine, in the order in which its trials started.

    of: the run. seen: for each trial after the seed's, the keys of the trials that ended between the previous decision
    and its own; None for a policy with generations. trials: how many were started before the final training, including
    the seed's. failed: the reason of each failed trial, which is not performed again. stopped: why no more were
    started. final_steps, lengths: length of the final training, and its changes on the way. latency: the latency table.
    digest: the run's ledger digest.
    """

    of: str
    seen: tuple[tuple[Key, ...], ...] | None
    trials: Annotated[Count, Field(gt=0)]
    failed: dict[Key, str]
    stopped: Stopped
    final_steps: Count
    latency: Latencies | None
    digest: Digest
    lengths: Lengths = ()

    def ended(self, started: int) -> frozenset[str] | None:
        """Keys of the trials that have ended for the decision after `started` trials; None: all that have ended."""
        if self.seen is None or started > len(self.seen):
            return None
        return frozenset(key for keys in self.seen[:started] for key in keys)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return TypeAdapter(Replay).dump_python(self, mode="json")


def replay_of(run: Path, view: LedgerView, generational: bool) -> Replay:
    """The replay of a finished run. Raises RunError if it is not finished."""
    if view.final is None:
        raise RunError(f"replay: {run} is not finished; finish it with: {nas_command('resume', run)}")
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
        lengths=view.final.performed.training.lengths,
    )


def replay_from(run: Path, described: Described) -> Replay | None:
    """The replay that a run's config.json describes; None if the run is not a replay. Raises RunError if damaged."""
    if described.replay is None:
        return None
    try:
        return validated(Replay, dict(described.replay))
    except ValueError as error:
        fact = f"{run}: the replay in config.json can't be read ({error})"
        raise RunError(f"{fact}; restore the file, or start a new replay") from None


def difference(before: LedgerView, now: LedgerView) -> str | None:
    """Describe the first difference in decisions or results of two runs; None if there is none."""
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
