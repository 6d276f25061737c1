"""`nas fsck`: whether a run is what was written, hash by hash. Reads only; a driver may be at work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from nas.base.errors import LedgerDamaged, RunError
from nas.ledger import LedgerView, Store, TrialRecord, examine, read_config
from nas.ledger.shared import is_run

PAUSE = "pause"
FindingState = Literal["damaged", "missing", "removed", "unnamed", "repaired"]
OnProgress = Callable[[int, int], None]  # (checkpoints looked at, of how many)


@dataclass(frozen=True)
class Finding:
    """One thing that is not simply there and sound.

    what: "configuration", "ledger", "weights" or "momentum"; "pause", of a training that may go on from it;
    "checkpoint" where that is not known. trials: the keys of those that made it. digest: of a checkpoint. state:
    damaged and missing are damage, but of a pause, before which there is another one or the training's beginning;
    removed on purpose (--keep) and named by no trial are none. fact: in words.
    """

    what: str
    trials: tuple[str, ...]
    digest: str | None
    state: FindingState
    fact: str

    @property
    def damage(self) -> bool:
        """Whether something is lost."""
        return self.state in ("damaged", "missing") and self.what != PAUSE


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what was found. trials: in the ledger. sound, sound_bytes: intact checkpoints."""

    run: str
    trials: int
    sound: int
    sound_bytes: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is lost."""
        return not any(finding.damage for finding in self.findings)

    @property
    def readable(self) -> bool:
        """Whether the record is whole, which nothing can make again."""
        return not any(finding.what in ("configuration", "ledger") for finding in self.findings)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps({"clean": self.clean, **asdict(self)}, indent=2)


def check(run: Path, progress: OnProgress | None = None) -> Checked:
    """Compare all of a run with its hashes: every trial with its seal, every checkpoint with its manifest and its name.

    Raises RunError where the ledger can't be read for want of space or permission.
    """
    store = Store(run / "checkpoints")
    what = "configuration"
    try:
        read_config(run)
        what = "ledger"
        view, faults, pauses = examine(run)
    except RunError as error:
        if what == "ledger" and is_run(run) and not isinstance(error, LedgerDamaged):
            raise
        return Checked(str(run), 0, 0, 0, (Finding(what, (), None, "damaged", str(error)),))
    makers = {**{d: (PAUSE, (key,)) for d, key in pauses.items()}, **made_by(view.complete)}
    found = [Finding("ledger", (), None, "damaged", fault) for fault in faults]
    sound: list[str] = []
    for looked, (digest, (what, trials)) in enumerate(makers.items(), 1):
        finding = look(store, digest, what, trials, view)
        found += [finding] if finding else []
        sound += [] if finding else [digest]
        if progress is not None:
            progress(looked, len(makers))
    unnamed = [digest for digest in store.digests() if digest not in makers]
    fact = "no ended trial names it; the next driver removes it"
    found += [Finding("checkpoint", (), digest, "unnamed", fact) for digest in unnamed]
    size = sum(store.size_bytes(digest) for digest in sound)
    return Checked(str(run), len(view.trials), len(sound), size, _settled(run, found))


def made_by(records: Iterable[TrialRecord]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For each checkpoint that complete trials name, what it is and the keys of the trials that made it."""
    makers: dict[str, tuple[str, tuple[str, ...]]] = {}
    for record in records:
        assert record.result is not None
        for what, digest in (("weights", record.result.weights), ("momentum", record.result.momentum)):
            if digest is not None:
                known, trials = makers.get(digest, (what, ()))
                makers[digest] = known, (*trials, record.key)
    return makers


def look(store: Store, digest: str, what: str, trials: tuple[str, ...], view: LedgerView) -> Finding | None:
    """What is wrong with one checkpoint; None where it is intact."""
    if not store.path(digest).is_dir():
        if digest in view.dropped:
            fact = "removed to bound the disk (--keep); its trial can make it again"
            return Finding(what, trials, digest, "removed", fact)
        return Finding(what, trials, digest, "missing", f"it is not in {store.folder}")
    try:
        network = store.get(digest)
    except RunError as error:  # missing where a driver has removed it just now
        state = "damaged" if store.path(digest).is_dir() else "missing"
        return Finding(what, trials, digest, state, str(error))
    result = view.trial(trials[0]).result
    if result is not None and network.graph.fingerprint != result.fingerprint:
        return Finding(what, trials, digest, "damaged", "it holds another architecture than its trial")
    return None


def _settled(run: Path, found: Sequence[Finding]) -> tuple[Finding, ...]:
    """`found`, where what a driver has removed on purpose in the meantime is said to be so, or left out if a pause."""
    if not any(finding.state == "missing" for finding in found):
        return tuple(found)
    view, _, pauses = examine(run)
    return tuple(
        replace(finding, state="removed")
        if finding.state == "missing" and finding.digest in view.dropped
        else finding
        for finding in found
        if finding.what != PAUSE or finding.state != "missing" or finding.digest in pauses
    )
