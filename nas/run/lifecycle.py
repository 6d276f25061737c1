"""Starts, replays and resumes runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

from morphs import Network, cost
from nas.base.errors import RunError, UserError
from nas.base.machine import cores
from nas.base.text import nas_command, plural
from nas.config.relocate import relocated, with_data, with_task
from nas.config.run_config import RunConfig, validated
from nas.data import SearchData, load_search_data
from nas.data.check import Check
from nas.data.folder import hashes_of
from nas.data.hashes import NONE, Known, keep_known, read_known
from nas.data.run_arrays import FILE as KEPT
from nas.execute.executor import ExecutorFactory
from nas.execute.make_executor import make_executor
from nas.ledger import Ledger, LedgerView, current_versions, read, read_config
from nas.ledger.described import Described
from nas.ledger.files import canonical_json
from nas.ledger.ledger import CHECKPOINTS
from nas.ledger.notes import Note
from nas.ledger.shared import Shared, is_run, place_of
from nas.registry.configure import check_names, with_setting_tables
from nas.registry.defaults import REGISTRY
from nas.registry.named_code import for_workers, named_again, named_by, user_code
from nas.registry.registry import Registry
from nas.run.budget import check_budget, seconds_per_step
from nas.run.description import describe
from nas.run.engine import Engine, outcome_of
from nas.run.events import Callback, Outcome
from nas.run.latency import latencies, priced
from nas.run.length import with_length
from nas.run.memory import fitted
from nas.run.pacing import limits_told, pace_told, paced
from nas.run.plan import Plan, make_plan
from nas.run.replay import REPLAY, Replay, replay_from, replay_of
from nas.run.speed import closing_seconds
from nas.run.start import Starting, graph_of, is_store, keep_data, keep_start, start_of
from nas.run.suited import suited_batches, suited_data, suited_training, told
from search_spaces.auto import choice


class Again(TypedDict, total=False):
    """What a command that continues or repeats a run gives again.

    data, task, policy, space, moves, objective: the same names as in the run. Each must be given if it is a
    `package.module:name` that the registry doesn't have: it names code, and code is never run because a file of the
    run names it. The source of that code must be unchanged.
    place: settings of where and how the run is carried out, which decide no results (`relocated`).
    """

    data: str | None
    task: str | None
    policy: str | None
    space: str | None
    moves: Sequence[str]
    objective: str | None
    place: Mapping[str, Any]


def search(
    config: RunConfig,
    run: Path,
    callback: Callback,
    command: str,
    executor: ExecutorFactory = make_executor,
    registry: Registry = REGISTRY,
    began: float | None = None,
    start: Starting | None = None,
    notices: Sequence[str] = (),
) -> Outcome:
    """Start a search in the new folder `run`.

    command: the command line, for the record. executor: makes our executors; one that `registry` adds comes from there.
    registry: resolves the names in `config`; code that `config` names is imported. began: since when the budget counts,
    by the monotonic clock; None: since this call. start: makes the trained network that the search begins with, once
    the data are known; the run keeps it. notices: what to say first.
    Raises UserError for wrong input, before anything is written, and NasError when the search has no outcome.
    """
    began = time.monotonic() if began is None else began
    startup = time.monotonic() - began
    check_new(run)
    registry = named_by(config, registry)
    config = check_names(config, registry)
    config, data, said = _suited(config, registry, start is None)
    if config.address is None and config.threads > cores():
        said.append(
            f"--threads {config.threads} is more than the {plural(cores(), 'core')} of this machine, which trains "
            f"slower than --threads {cores()}"
        )
    if config.device != "cpu" and "device" in config.fitted:
        said.append(f"device: {config.device}, a GPU of this machine; --device cpu trains on the processor")
    if config.space == "auto":
        said.append(
            f"space: {choice(data.input_shape, data.tokens).__name__}, which suits "
            f"{'inputs' if data.tokens is None else 'tokens'} {list(data.input_shape)}"
        )
    given = None if start is None else start(data)
    config = config.model_copy(update={"start": None if given is None else given.digest})
    plan, smaller = fitted(make_plan(config, data, registry, graph_of(given)))
    if smaller is not None:
        said.append(smaller)
    before, left = plan.config, config.budget and config.budget - (time.monotonic() - began)
    plan = replace(plan, config=with_length(before, plan.space.seed, data, left))
    measure = partial(seconds_per_step, plan.space.seed, data, plan.config.train, plan.config.device)
    seconds = cache(measure)
    gone = time.monotonic() - began + closing_seconds(startup, config.budget)  # and what will be gone
    config = paced(plan.config, cost(plan.space.seed).macs, plan.images, cores(), seconds, gone)
    measured = seconds(config.threads) if config.budget is not None else None
    said += [
        *told(before, config, plan.images),
        *pace_told(config, plan.images, cost(plan.space.seed).macs, measured),
        *limits_told(config, plan.space.limits),
    ]
    plan = make_plan(config, data, registry, graph_of(given))
    description = describe(config, data, command, user_code(config, registry, plan.moves))
    check_budget(plan, seconds, time.monotonic() - began, startup)
    known = hashes_of(data.train, data.val)
    del data  # workers have their own copy; free the memory
    return _begin(
        plan, run, description, callback, executor, began, registry, known,
        given=given, startup=startup, said=(*notices, *said),
    )  # fmt: skip


def _suited(config: RunConfig, registry: Registry, fresh: bool) -> tuple[RunConfig, SearchData, list[str]]:
    """A new run's configuration with the settings that suit its data, the data, and what to say of these settings."""
    data = load_data(for_workers(config, registry, ()), check=config.check_data)
    suited = suited_data(suited_training(config, data, registry, fresh), data)
    if (suited.val_fraction, suited.augment) != (config.val_fraction, config.augment):
        data = load_data(for_workers(suited, registry, ()))
    final = suited_batches(suited, len(data.train))
    return final, data, list(told(config, final, len(data.train)))


def replay(
    source: Path,
    run: Path,
    callback: Callback,
    command: str,
    force: bool = False,
    executor: ExecutorFactory = make_executor,
    registry: Registry = REGISTRY,
    **again: Unpack[Again],
) -> Outcome:
    """Repeat the finished run `source` in the new folder `run`: with the same configuration, and the same decisions
    where the search depended on time (`Replay`). Compare the two with `difference`.

    Arguments and errors are otherwise those of `search` and `resume`.
    """
    began = time.monotonic()
    check_new(run, "replay")
    made, view = read_config(source), read(source)
    config = stored_config(source, made.config, "replay", registry)
    config, registry = found_again(source, config, registry, "replay", again)
    config = config.model_copy(update={"ledger": None})  # only a command names a database to write into
    held = load_data(for_workers(config, registry, ()), source, config.check_data)
    given = start_of(source, config)
    plan = make_plan(config, held, registry, graph_of(given))
    known = hashes_of(held.train, held.val)
    decisions = replay_of(source, view, plan.policy.generational)
    code = user_code(config, registry, plan.moves)
    description = {**describe(config, held, command, code), REPLAY: decisions.to_json()}
    del held
    changes = changes_since(made.described, description, made.versions)
    if changes and not force:
        raise RunError(
            f"replay: {source}: {'; '.join(changes)}; results may differ; to replay anyway add --force"
        )
    return _begin(plan, run, description, callback, executor, began, registry, known, decisions, given)


def _begin(
    plan: Plan,
    run: Path,
    description: Mapping[str, Any],
    callback: Callback,
    executor: ExecutorFactory,
    began: float,
    registry: Registry,
    known: Known,
    again: Replay | None = None,
    given: Network | None = None,
    startup: float = 0.0,
    said: Sequence[str] = (),
) -> Outcome:
    """Create the run and search. Nothing is written or said before all checks that may refuse it have passed.

    known: hashes of the data's files, and given: the network that the search starts from, which the run keeps.
    """
    work = for_workers(plan.config, registry, plan.moves)
    table = latencies(plan, again)
    keep_data(run, plan.config)
    keep_start(run, given)
    with Ledger.create(run, description, plan.config.ledger) as ledger:
        keep_known(run, known)
        plan = priced(plan, ledger, table)
        callback.on_data(tuple(description["data"]["notes"]))
        for notice in said:
            callback.on_notice(notice)
        workers = _factory(executor, work, registry)(run, work, description["data"]["digest"])
        return Engine(plan, run, ledger, callback, workers, began, again, startup).go(resumed=False)


def resume(
    run: Path,
    callback: Callback,
    force: bool = False,
    executor: ExecutorFactory = make_executor,
    registry: Registry = REGISTRY,
    began: float | None = None,
    **again: Unpack[Again],
) -> Outcome:
    """Continue an interrupted run, or report again how a finished one ended, which changes nothing in it.

    Raises RunError when such a name is missing or different, and when configuration, versions, machine or data differ
    from those at the run's start, unless `force` is set, which is noted in the ledger. began: as for `search`.
    """
    began = time.monotonic() if began is None else began
    startup = time.monotonic() - began
    with Ledger.open(run, force=True) as ledger:  # edits of the run's files are checked with the rest, below
        stored = ledger.config
        config = stored_config(run, stored.config, registry=registry)
        view = ledger.view()
        if view.final is not None:
            callback.on_run_start(run, config, view, True)
            outcome = outcome_of(run, view, view.notes.stopped or "generations")
            callback.on_run_end(outcome)
            return outcome
        _check_whole(ledger, view)
        config, registry = found_again(run, config, registry, "resume", again)
        held = load_data(for_workers(config, registry, ()), run)
        plan = make_plan(config, held, registry, graph_of(start_of(run, config)))
        known = hashes_of(held.train, held.val)
        now = describe(config, held, "", user_code(config, registry, plan.moves))
        del held
        _check_same(ledger, now, force)
        if known.keys() - read_known(run).keys():
            keep_known(run, known)
        decisions = replay_from(run, stored.described)
        plan = priced(plan, ledger, ledger.notes.latency or latencies(plan, decisions))
        work = for_workers(config, registry, plan.moves)
        workers = _factory(executor, work, registry)(run, work, now["data"]["digest"])
        return Engine(plan, run, ledger, callback, workers, began, decisions, startup).go(resumed=True)


def _check_whole(ledger: Ledger, view: LedgerView) -> None:
    """Raise RunError if this copy of a run is behind its shared database, so that checkpoints are elsewhere."""
    missing = view.missing(ledger.store.digests())
    if missing and isinstance(place_of(ledger.run), Shared):
        raise RunError(
            f"{ledger.run}: {len(missing)} of {len(view.checkpoints)} checkpoints are not in this copy of the run; "
            f"resume on the machine that has them, or recreate them with: {nas_command('fsck', ledger.run, '--repair')}"
        )


def check_new(run: Path, command: str = "search") -> None:
    """Raise RunError unless `run` can become a run: missing, empty, or left by a driver that died creating it."""
    try:
        names = {entry.name for entry in run.iterdir()} if run.exists() else set[str]()
    except OSError as error:
        raise RunError(
            f"{command}: {run} can't be used as a folder ({error.strerror}); name another"
        ) from None
    if is_run(run):
        raise RunError(
            f"{command}: {run} is already a run; name another folder, or continue it with: {nas_command('resume', run)}"
        )
    ours = {"lock", "config.json", KEPT, *([CHECKPOINTS] if is_store(run / CHECKPOINTS) else [])}
    foreign = {name for name in names if name not in ours and not name.startswith(".tmp-")}
    if foreign:
        raise RunError(f"{command}: {run} holds other files ({min(foreign)}); name a new or an empty folder")


def _factory(ours: ExecutorFactory, config: RunConfig, registry: Registry) -> ExecutorFactory:
    """The factory of the run's executor."""
    return ours if config.executor in REGISTRY.executors else registry.executors[config.executor]


def found_again(
    run: Path, config: RunConfig, registry: Registry, command: str, again: Again
) -> tuple[RunConfig, Registry]:
    """A run's configuration on this machine, and the registry with the code that the command names. Raises RunError if
    it does not name what only a command may name.
    """
    place = again.get("place", {})
    config = relocated(config, place)
    _check_reach(run, config, command, place)
    given = {name: again.get(name) for name in ("space", "policy", "moves", "objective")}
    registry = named_again(run, config, registry, command, {**given, "executor": place.get("executor")})
    config = with_task(run, with_data(run, config, again.get("data"), command), again.get("task"), command)
    return check_names(config, registry), registry


def _check_reach(run: Path, config: RunConfig, command: str, place: Mapping[str, Any]) -> None:
    """Raise RunError if a file of the run, and not the command, names a place that results would be sent to.

    A Ray cluster can moreover run any code in the processes that connect to it. "auto" is this machine's own.
    """
    reached = {"address": config.address, "storage": config.storage}
    named = {name: value for name, value in reached.items() if value is not None and value != "auto"}
    if named.keys() <= place.keys():
        return
    name, value = next((name, value) for name, value in named.items() if name not in place)
    options = [word for name, value in named.items() for word in (f"--{name}", value)]
    raise RunError(
        f"{command}: {run} names {value} as its {name} of Ray, which only a command may name; if you trust it, run: "
        f"{nas_command(*command.split(), run, *options)}; or add --executor local"
    )


def stored_config(
    run: Path, stored: Mapping[str, Any], command: str = "resume", registry: Registry = REGISTRY
) -> RunConfig:
    """The configuration of a run as its folder has it; the names in it are not checked yet.

    registry: for the settings of policies in runs of older versions. Raises RunError if no search made the run, or if
    this version can't read it.
    """
    if not isinstance(stored.get("config"), dict) or not isinstance(stored.get("data"), dict):
        raise RunError(f"{command}: {run} was not made by a search; name the folder of one")
    try:
        # Before there were lineages, every trial had a schedule of its own.
        return validated(with_setting_tables({"schedule": "restarts", **stored["config"]}, registry))
    except UserError as error:
        fact = f"{command}: {run}: {error}"
        raise RunError(f"{fact}; use the version of this program that made the run") from None


def load_data(config: RunConfig, run: Path | None = None, check: Check = "none") -> SearchData:
    """The data of a run, without the test split. run: its folder, which may have hashes of the data's files.

    check: whether every picture is read once (`load_search_data`).
    """
    root = Path(config.data_root) if config.data_root else None
    known = NONE if run is None else read_known(run)
    return load_search_data(
        config.data, root, config.seed, config.val_fraction, config.augment, check, known, config.task
    )


def _check_same(ledger: Ledger, now: Mapping[str, Any], force: bool) -> None:
    """Raise RunError when something that decides a run's results has changed, unless forced now or before."""
    changes = [*ledger.edits, *changes_since(ledger.original, now, ledger.config.versions)]
    forced = ledger.notes.forced
    if not changes or tuple(changes) in forced:
        return
    if not force:
        fact = f"resume: {ledger.run}: {'; '.join(changes)}"
        raise RunError(f"{fact}; results would not be comparable; to continue anyway add --force")
    ledger.note(Note.FORCED, [*map(list, forced), changes])


def changes_since(before: Described, now: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    """Describe what has changed among the things that decide a run's results."""
    pairs = [(f"version of {name}", versions.get(name), new) for name, new in current_versions().items()]
    deciding = ["processor", "capability"]
    if before.config.device != "cpu":
        deciding.append("accelerator")
    # Runs of older versions don't have the latter.
    deciding += [name for name in ("instructions", "arithmetic") if name in before.machine]
    pairs += [(name, before.machine.get(name), now["machine"].get(name)) for name in deciding]
    variables: Mapping[str, str] = now["machine"].get("environment", {})
    known: Any = before.machine.get("environment")
    pairs += [
        (name, known[name], new)
        for name, new in variables.items()
        if isinstance(known, dict) and name in known
    ]
    kind = "digest" if before.data.former is not None else "former"  # as the run's version made it
    pairs.append(("content of the data set", str(before.data.digest)[:12], str(now["data"].get(kind))[:12]))
    if before.task is not None:  # runs of older versions are classifications
        pairs.append(("task", canonical_json(dict(before.task)), canonical_json(now["task"])))
    code, code_now = before.user_code, now.get("user_code", {})
    pairs += [
        (f"source of {name}", code[name][:12], code_now[name][:12]) for name in code if name in code_now
    ]
    return [f"{name} was {old} and is {new}" for name, old, new in pairs if old != new]
