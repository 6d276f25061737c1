"""A run from its first trial to its final network, and the same after any interruption."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nas.base.errors import RunError, UserError
from nas.base.machine import machine
from nas.config.relocate import relocated, with_data
from nas.config.run_config import RunConfig, check_config
from nas.data import SearchData, is_kept, load_search_data
from nas.data.kept import FILE as KEPT
from nas.data.kept import read_kept, write_kept
from nas.execute.choose import make_executor
from nas.execute.executor import ExecutorFactory
from nas.ledger import Ledger, LedgerView, current_versions, read, read_config
from nas.ledger.notes import Note
from nas.ledger.shared import Shared, is_run, place_of
from nas.policies.choose import POLICIES
from nas.run.budget import seconds_per_step
from nas.run.engine import Engine, outcome_of
from nas.run.events import Callback, Outcome
from nas.run.latency import latencies, priced
from nas.run.plan import Plan, make_plan, seed_job
from nas.run.replay import REPLAY, Replay, replay_from, replay_of

RUNS = Path("runs")


def default_run_folder(config: RunConfig) -> Path:
    """The first free runs/SPACE-DATA-NNN."""
    spec = "arrays" if is_kept(config.data) else config.data
    data = "".join(c if c.isalnum() or c in "-_" else "-" for c in spec)[:40]
    number = 1
    while (folder := RUNS / f"{config.space}-{data}-{number:03d}").exists():
        number += 1
    return folder


def free_replay_folder(source: Path) -> Path:
    """The first free SOURCE-replay-N, beside it."""
    number = 1
    while (folder := source.with_name(f"{source.name}-replay-{number}")).exists():
        number += 1
    return folder


def search(
    config: RunConfig,
    run: Path,
    callback: Callback,
    command: str,
    executor: ExecutorFactory = make_executor,
) -> Outcome:
    """Search from scratch in the new folder `run`.

    command: the command line, for the record.
    Raises UserError for wrong input, before anything is written, and NasError where nothing came of it.
    """
    began = time.monotonic()
    check_new(run)
    data = load_data(config)
    plan, description = make_plan(config, data), describe(config, data, command)
    _check_budget(plan, data)
    del data  # workers have their own; this process needs its memory no more
    return _begin(plan, run, description, callback, executor, began)


def replay(
    source: Path,
    run: Path,
    callback: Callback,
    command: str,
    force: bool = False,
    data: str | None = None,
    executor: ExecutorFactory = make_executor,
    policy: str | None = None,
    place: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """Make the finished run `source` again in the new folder `run`: the same configuration, and the same wherever the
    search depended on time (`Replay`). Whether it came to the same is for `difference` to say.

    Arguments and errors otherwise as for `search` and `resume`.
    """
    began = time.monotonic()
    check_new(run, "replay")
    made, view = read_config(source), read(source)
    config = relocated(with_data(source, stored_config(source, made.config, "replay"), data, "replay"), place)
    config = config.model_copy(update={"ledger": None})  # only a command names a database to write into
    _check_policy(source, config, policy, "replay")
    held = load_data(config)
    plan = make_plan(config, held)
    again = replay_of(source, view, plan.policy.generational)
    description = {**describe(config, held, command), REPLAY: again.to_json()}
    del held
    changes = changes_since(made.config, description, made.versions)
    if changes and not force:
        raise RunError(
            f"replay: {source}: {'; '.join(changes)}; other bits may come out, go on all the same with --force"
        )
    return _begin(plan, run, description, callback, executor, began, again)


def _begin(
    plan: Plan,
    run: Path,
    description: Mapping[str, Any],
    callback: Callback,
    executor: ExecutorFactory,
    began: float,
    again: Replay | None = None,
) -> Outcome:
    """Make the run and search. Nothing is written before all that may refuse it has been asked."""
    table = latencies(plan, again)
    _keep_data(run, plan.config)
    with Ledger.create(run, description, plan.config.ledger) as ledger:
        plan = priced(plan, ledger, table)
        workers = executor(run, plan.config, description["data"]["digest"])
        return Engine(plan, run, ledger, callback, workers, began, again).go(resumed=False)


def _keep_data(run: Path, config: RunConfig) -> None:
    """Arrays that another run keeps, of which `run` is a replay, become its own."""
    if is_kept(config.data) and (there := Path(str(config.data_root))) != run.absolute():
        write_kept(run, read_kept(there, config.data))


def resume(
    run: Path,
    callback: Callback,
    force: bool = False,
    data: str | None = None,
    executor: ExecutorFactory = make_executor,
    policy: str | None = None,
    place: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """Go on with an interrupted run, or say again how a finished one ended, which changes nothing in it.

    data, policy: the run's data set and policy once more. They must be given where they are a
    `package.module:name`: that names code, and code is never run because a file of the run names it.
    place: what is other than where the run began, and decides nothing (`relocated`).
    Raises RunError when they are missing or others, and when configuration, versions, machine or data differ from
    those of the run's beginning, unless `force`, which is noted in the ledger.
    """
    began = time.monotonic()
    with Ledger.open(run, force=True) as ledger:  # what was changed is judged with the rest, below
        stored = ledger.config.config
        config = stored_config(run, stored)
        view = ledger.view()
        if view.final is not None:
            callback.on_run_start(run, config, view, True)
            outcome = outcome_of(run, view, view.notes.stopped or "generations")
            callback.on_run_end(outcome)
            return outcome
        _check_whole(ledger, view)
        config = relocated(with_data(run, config, data), place)
        _check_policy(run, config, policy)
        held = load_data(config)
        plan, now = make_plan(config, held), describe(config, held, "")
        del held
        _check_same(ledger, now, force)
        again = replay_from(run, stored)
        plan = priced(plan, ledger, ledger.notes.latency or latencies(plan, again))
        workers = executor(run, config, now["data"]["digest"])
        return Engine(plan, run, ledger, callback, workers, began, again).go(resumed=True)


def _check_whole(ledger: Ledger, view: LedgerView) -> None:
    """RunError for a copy of a run that is behind its shared database: what trials told there lies elsewhere."""
    missing = view.missing(ledger.store.digests())
    if missing and isinstance(place_of(ledger.run), Shared):
        raise RunError(
            f"{ledger.run}: {len(missing)} of {len(view.checkpoints)} checkpoints are not in this copy of the run; "
            f"resume where they lie, or make them again with: nas fsck {ledger.run} --repair"
        )


def check_new(run: Path, command: str = "search") -> None:
    """RunError unless `run` can become a run: missing, empty, or left by a driver that died making it."""
    try:
        names = {entry.name for entry in run.iterdir()} if run.exists() else set[str]()
    except OSError as error:
        raise RunError(f"{command}: {run} is no folder to use ({error.strerror}); name another") from None
    if is_run(run):
        raise RunError(
            f"{command}: {run} is a run already; name another folder, or go on with: nas resume {run}"
        )
    foreign = {
        name for name in names if name not in ("lock", "config.json", KEPT) and not name.startswith(".tmp-")
    }
    if foreign:
        raise RunError(f"{command}: {run} holds other files ({min(foreign)}); name a new or an empty folder")


def stored_config(run: Path, stored: Mapping[str, Any], command: str = "resume") -> RunConfig:
    """The configuration of a run as its folder has it. Raises RunError where no search of this version made it."""
    if not isinstance(stored.get("config"), dict) or not isinstance(stored.get("data"), dict):
        raise RunError(f"{command}: {run} was not made by a search; name the folder of one")
    try:
        return check_config(stored["config"])
    except UserError as error:
        fact = f"{command}: {run}: {error}"
        raise RunError(f"{fact}; use the version of this program that made the run") from None


def _check_policy(run: Path, config: RunConfig, given: str | None, command: str = "resume") -> None:
    if given is not None and given != config.policy:
        raise RunError(
            f"{command}: {run} is searched by {config.policy}, not by {given}; leave --policy out or give that"
        )
    if given is None and config.policy not in POLICIES:
        raise RunError(
            f"{command}: the policy of {run} is code, {config.policy}, which only a command may name; "
            f"if you trust it go on with: nas {command} {run} --policy {config.policy}"
        )


def load_data(config: RunConfig) -> SearchData:
    """The data of a run, but the test split."""
    root = Path(config.data_root) if config.data_root else None
    return load_search_data(config.data, root, config.seed, config.val_fraction)


def describe(config: RunConfig, data: SearchData, command: str) -> dict[str, Any]:
    """What a run's config.json holds: the settings, and what else decides its numbers."""
    return {
        "config": config.model_dump(mode="json"),
        "command": command,
        "machine": machine(),
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "mean": list(data.mean),
            "std": list(data.std),
            "input_shape": list(data.input_shape),
            "images": {"train": len(data.train), "validation": len(data.val)},
            "digest": data.digest,
        },
    }


def _check_same(ledger: Ledger, now: Mapping[str, Any], force: bool) -> None:
    """RunError when what decides a run's numbers has changed, unless that is forced now or was before."""
    changes = [*ledger.edits, *changes_since(ledger.original, now, ledger.config.versions)]
    forced = ledger.notes.forced
    if not changes or tuple(changes) in forced:
        return
    if not force:
        fact = f"resume: {ledger.run}: {'; '.join(changes)}"
        raise RunError(f"{fact}; results would not be comparable, go on all the same with --force")
    ledger.note(Note.FORCED, [*map(list, forced), changes])


def changes_since(
    before: Mapping[str, Any], now: Mapping[str, Any], versions: Mapping[str, str]
) -> list[str]:
    """What differs of the things that decide a run's numbers, in words."""
    pairs = [(f"version of {name}", versions.get(name), new) for name, new in current_versions().items()]
    known: Mapping[str, Any] = before.get("machine", {})
    deciding = ["processor", "capability"]
    if before["config"].get("device", "cpu") != "cpu":
        deciding.append("accelerator")
    pairs += [(name, known.get(name), now["machine"][name]) for name in deciding]
    pairs.append(
        ("content of the data set", str(before["data"].get("digest"))[:12], now["data"]["digest"][:12])
    )
    return [f"{name} was {old} and is {new}" for name, old, new in pairs if old != new]


def _check_budget(plan: Plan, data: SearchData) -> None:
    """UserError when the budget can't pay for the seed network's training and one generation."""
    config = plan.config
    if config.budget is None:
        return
    job = seed_job(plan)
    each = job.steps * seconds_per_step(plan.space.seed, data, config.train, config.device, config.threads)
    have, need = config.budget * (1 - config.final_share), each * (1 + plan.rounds)
    if need > have:
        raise UserError(
            f"search: a budget of {config.budget:.0f} s leaves {have:.0f} s for the search; the seed network and one "
            f"generation take about {need:.0f} s: raise --budget, or lower --epochs or --children"
        )
