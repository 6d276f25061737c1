"""`nas fsck`: check all of a run against its hashes. Only reads; a driver may be running."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from nas.base.errors import LedgerDamaged, RunError
from nas.inspect.current_driver import holder_of_lock
from nas.ledger import LedgerView, Store, TrialRecord, examine, read_config
from nas.ledger.leftovers import abandoned
from nas.ledger.shared import is_run

PAUSE = "pause"
FindingState = Literal["damaged", "missing", "removed", "unnamed", "left over", "repaired"]
OnProgress = Callable[[int, int], None]  # (checkpoints checked, total)


@dataclass(frozen=True)
class Finding:
    """One part of a run that is not present and intact.

    what: "configuration", "ledger", "weights", "last weights" or "momentum"; "pause" for a checkpoint from which a
    training may continue; "checkpoint" if its use is not known; "temporary" for what a killed process left. trials: the
    keys of the trials that made it. digest: of a checkpoint. state: "damaged" and "missing" count as damage, except for
    a pause, since an earlier pause or the start of the training replaces it; "removed" (on purpose, --keep), "unnamed"
    (no trial refers to it) and "left over" do not. fact: a description.
    """

    what: str
    trials: tuple[str, ...]
    digest: str | None
    state: FindingState
    fact: str

    @property
    def damage(self) -> bool:
        """Whether data is lost."""
        return self.state in ("damaged", "missing") and self.what != PAUSE


@dataclass(frozen=True)
class Checked:
    """The result of a check. trials: number in the ledger. sound, sound_bytes: intact checkpoints."""

    run: str
    trials: int
    sound: int
    sound_bytes: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether no data is lost."""
        return not any(finding.damage for finding in self.findings)

    @property
    def readable(self) -> bool:
        """Whether the configuration and the ledger are intact; these can't be repaired."""
        return not any(finding.what in ("configuration", "ledger") for finding in self.findings)

    def to_json(self) -> str:
        """Return one JSON object."""
        return json.dumps({"clean": self.clean, **asdict(self)}, indent=2)


def check(run: Path, progress: OnProgress | None = None) -> Checked:
    """Check all of a run against its hashes: every trial's seal, every checkpoint's manifest and name.

    Raises RunError if the ledger can't be read for lack of space or permission.
    """
    store = Store(run / "checkpoints")
    what = "configuration"
    try:
        start = read_config(run).described.config.start
        what = "ledger"
        view, faults, pauses = examine(run)
    except RunError as error:
        if what == "ledger" and is_run(run) and not isinstance(error, LedgerDamaged):
            raise
        return Checked(str(run), 0, 0, 0, (Finding(what, (), None, "damaged", str(error)),))
    makers = {**{d: (PAUSE, (key,)) for d, key in pauses.items()}, **made_by(view.complete)}
    # The state of a training that nobody continues is removed as a matter of course.
    makers = {d: made for d, made in makers.items() if made[0] == "weights" or d not in view.dropped}
    if start is not None:
        makers = {start: ("start", ()), **makers}
    found = [Finding("ledger", (), None, "damaged", fault) for fault in faults]
    sound: list[str] = []
    for looked, (digest, (what, trials)) in enumerate(makers.items(), 1):
        finding = look(store, digest, what, trials, view)
        found += [finding] if finding else []
        sound += [] if finding else [digest]
        if progress is not None:
            progress(looked, len(makers))
    unnamed = [digest for digest in store.digests() if digest not in makers]
    fact = "no ended trial refers to it; the next driver removes it"
    found += [Finding("checkpoint", (), digest, "unnamed", fact) for digest in unnamed]
    found += left_by_kills(run)
    size = sum(store.size_bytes(digest) for digest in sound)
    return Checked(str(run), len(view.trials), len(sound), size, _recheck_missing(run, found))


def left_by_kills(run: Path) -> list[Finding]:
    """Return the temporary files and folders of a run that no process works on any more."""
    if holder_of_lock(run) is not None:
        return []
    left = [*abandoned(run), *abandoned(run / "checkpoints")]
    fact = "left by a killed process; the next driver removes it"
    return [Finding("temporary", (), None, "left over", f"{path.relative_to(run)}: {fact}") for path in left]


def made_by(records: Iterable[TrialRecord]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return, for each checkpoint of complete trials, what it is and the keys of the trials that made it."""
    makers: dict[str, tuple[str, tuple[str, ...]]] = {}
    for record in records:
        assert record.result is not None
        result = record.result
        rest = (("momentum", digest) for digest in (result.momentum, *result.rest))
        parts = ("weights", result.weights), ("last weights", result.last), *rest
        for what, digest in parts:
            if digest is not None:
                known, trials = makers.get(digest, (what, ()))
                makers[digest] = known, (*trials, record.key)
    return makers


def look(store: Store, digest: str, what: str, trials: tuple[str, ...], view: LedgerView) -> Finding | None:
    """Return what is wrong with one checkpoint; None if it is intact."""
    if not store.path(digest).is_dir():
        if digest in view.dropped:
            fact = "removed to save disk space (--keep); its trial can make it again"
            return Finding(what, trials, digest, "removed", fact)
        return Finding(what, trials, digest, "missing", f"it is not in {store.folder}")
    try:
        network = store.get(digest)
    except RunError as error:  # missing if a driver has just removed it
        state = "damaged" if store.path(digest).is_dir() else "missing"
        return Finding(what, trials, digest, state, str(error))
    result = view.trial(trials[0]).result if trials else None
    if result is not None and network.graph.fingerprint != result.fingerprint:
        return Finding(what, trials, digest, "damaged", "its architecture differs from its trial's")
    return None


def _recheck_missing(run: Path, found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return `found`, where missing checkpoints that a driver has since removed on purpose are marked "removed".

    Pauses that it has removed are left out.
    """
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
