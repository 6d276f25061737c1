"""`nas fsck --repair`: make lost checkpoints again, with the same moves and training, to the same hash."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from morphs import Network
from morphs.errors import MorphError
from nas.base.errors import NasError, Refused, RunError
from nas.config.relocate import relocated, with_data, with_task
from nas.config.run_config import RunConfig
from nas.data import SearchData
from nas.execute.task import TaskContext, networks
from nas.execute.worker import site_of
from nas.inspect.fsck import Checked, check
from nas.ledger import Ledger, LedgerView, Store, TrialRecord
from nas.ledger.leftovers import temporary_name
from nas.registry.defaults import REGISTRY
from nas.registry.named_code import for_workers, moves_code, named_again
from nas.registry.registry import Registry
from nas.run.description import describe
from nas.run.lifecycle import changes_since, load_data, stored_config
from nas.run.plan import make_space, moves_of

OnProgress = Callable[[int, int], None]  # (trials trained again, total)


def repair(
    run: Path,
    found: Checked,
    trials: Sequence[str],
    data: str | None,
    progress: OnProgress,
    place: Mapping[str, Any] = MappingProxyType({}),
    space: str | None = None,
    moves: Sequence[str] = (),
    task: str | None = None,
    registry: Registry = REGISTRY,
) -> Checked:
    """Make the checkpoints again that `found` lists as lost, and those of `trials`; return the second check's result.

    If a child's parent is lost too, the parent is made first, and so on; such parents are not stored. The ledger can't
    be repaired. data, place, space, moves, task, registry: see `lifecycle.resume`. Raises RunError if a driver has the
    run, UserError for an unknown trial, Refused if versions, machine or data differ from those of the run, since the
    bits would differ.
    """
    with Ledger.open(run, force=True) as ledger:
        view = ledger.view()
        asked = [view.trial(key) for key in trials]
        wanted = {finding.digest for finding in found.findings if finding.damage and finding.digest}
        wanted |= {record.result.weights for record in asked if record.result is not None}
        command = "fsck --repair"
        config = stored_config(run, ledger.config.config, command, registry)
        registry = named_again(
            run, config, registry, command, {"space": space, "moves": moves}, ("space", "moves")
        )
        config = with_task(run, with_data(run, config, data, command), task, command)
        config = relocated(config, place)
        held = load_data(for_workers(config, registry, ()), run)
        start = None if config.start is None else ledger.store.get(config.start).graph
        known = moves_of(make_space(config, held, registry, start), registry)
        config = for_workers(config, registry, known)
        _check_bits(ledger, config, held, moves_code(known))
        scratch = Store(
            temporary_name(ledger.store.path("0" * 64))
        )  # if this process is killed, the next opening deletes it
        try:
            site = site_of(config, _Both(ledger.store, scratch))
            outcome = _remake(view, sorted(wanted), ledger.store, scratch, site, held, progress)
        finally:
            shutil.rmtree(scratch.folder, ignore_errors=True)
    return _merged(found, check(run), outcome)


@dataclass(frozen=True)
class _Both:
    """The run's store, backed by the checkpoints that were made again during the repair."""

    store: Store
    scratch: Store

    def get(self, digest: str) -> Network:
        """Return the network from the store if it is intact there, else from the scratch store."""
        return self.store.get(digest) if _intact(self.store, digest) else self.scratch.get(digest)

    def put(self, network: Network) -> str:
        """Put the network into the scratch store."""
        return self.scratch.put(network)


def _check_bits(ledger: Ledger, config: RunConfig, data: SearchData, code: Mapping[str, str]) -> None:
    """Raise Refused unless this process, as far as is known, computes the same bits as the run's processes."""
    before, now = ledger.original, describe(config, data, "", code)
    changes = [*ledger.edits, *changes_since(before, now, ledger.config.versions)]
    if changes and tuple(changes) not in ledger.notes.forced:
        raise Refused(
            f"fsck --repair: {ledger.run}: {'; '.join(changes)}: the bits would differ; repair it where it was made"
        )


def _remake(
    view: LedgerView,
    wanted: Sequence[str],
    store: Store,
    scratch: Store,
    site: TaskContext,
    data: SearchData,
    progress: OnProgress,
) -> dict[str, str | None]:
    """Make the wanted checkpoints and put them into the store; return, for each, why that failed, or None."""
    makers: dict[str, TrialRecord] = {}
    for record in sorted(
        view.complete, key=lambda record: record.number
    ):  # the first maker counts: later trials may reuse its checkpoint
        assert record.result is not None
        for digest in record.result.checkpoints:
            makers.setdefault(digest, record)
    there = partial(_intact, store)
    order = _order([digest for digest in wanted if digest in makers], makers, there)
    reasons: dict[str, str | None] = dict.fromkeys(wanted, "no trial of the ledger made it")
    for done, record in enumerate(order):
        progress(done, len(order))
        reason = _make(record, site, data, scratch)
        result = record.result
        for digest in result.checkpoints if result else ():
            if digest in reasons:
                reasons[digest] = reason or _restore(digest, store, scratch)
    progress(len(order), len(order))
    return reasons


def _order(
    wanted: Iterable[str], makers: Mapping[str, TrialRecord], there: Callable[[str], bool]
) -> list[TrialRecord]:
    """Return the trials to perform again for `wanted`, parents first."""
    order: list[TrialRecord] = []
    seen: set[str] = set()
    stack = [(makers[digest], False) for digest in sorted(wanted)]
    while stack:
        record, ready = stack.pop()
        if ready:
            order.append(record)
        elif record.key not in seen:
            seen.add(record.key)
            stack.append((record, True))
            lost = [digest for digest in record.job.training.checkpoints if not there(digest)]
            stack += [(makers[digest], False) for digest in lost if digest in makers]
    return order


def _make(record: TrialRecord, site: TaskContext, data: SearchData, scratch: Store) -> str | None:
    """Perform a trial again and put its networks into `scratch`; return why they differ or failed, or None."""
    assert record.result is not None
    try:
        made = networks(record.performed, site, data).stored
        if tuple(network.digest for network in made) != record.result.checkpoints:
            return f"training trial {record.key} again gave other bits ({made[0].digest[:12]})"
        for network in made:
            scratch.put(network)
    except (NasError, MorphError) as error:
        return f"trial {record.key} can't be trained again ({error})"
    return None


def _restore(digest: str, store: Store, scratch: Store) -> str | None:
    """Put a checkpoint that was made again into the store, replacing its remains; return why that failed, or None."""
    try:
        network = scratch.get(digest)
        if not _intact(store, digest):
            store.remove(digest)
            store.put(network)
    except RunError as error:
        return str(error)
    return None


def _intact(store: Store, digest: str) -> bool:
    try:
        store.get(digest)
    except RunError:
        return False
    return True


def _merged(before: Checked, after: Checked, outcome: Mapping[str, str | None]) -> Checked:
    """Return the check after a repair, with the outcome of the repair in its findings."""
    reasons = {digest: reason for digest, reason in outcome.items() if reason is not None}
    left = [
        replace(finding, fact=f"{finding.fact}; not repaired: {reasons[finding.digest]}")
        if finding.digest in reasons
        else finding
        for finding in after.findings
    ]
    repaired = [
        replace(finding, state="repaired", fact="made again, to the same hash")
        for finding in before.findings
        if finding.digest in outcome and finding.digest not in reasons
    ]
    return replace(after, findings=(*repaired, *left))
