"""`nas search`, `nas resume` and `nas replay`: drives a run from a terminal and reports how it ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nas.adapters.loggers import loggers
from nas.api import watched_run
from nas.api.interrupts import interrupts
from nas.api.models import starting
from nas.api.options import configuration, place_of
from nas.api.watched_run import NamedAgain, Session
from nas.base.errors import NasError
from nas.base.printing import say, warn
from nas.base.text import nas_command
from nas.cli import tables
from nas.config.run_config import MODEL
from nas.execute.worker_processes import WorkerProcesses
from nas.inspect.status import find_run
from nas.ledger import LedgerView, read, read_config
from nas.ledger.shared import is_run
from nas.registry.plugins import with_plugins
from nas.run.events import Outcome
from nas.run.folders import default_run_folder, free_replay_folder
from nas.run.longer import folder_for, more_of
from nas.run.replay import difference, replay_from

INTERRUPTED = 130
STOPS = (signal.SIGINT, signal.SIGTERM)


def continuing(
    quiet: bool,
    force: bool,
    again: Mapping[str, Any],
    place: Mapping[str, Any],
    processes: WorkerProcesses | None,
    command: str = "",
) -> Session:
    """The session of `resume` and `replay`. again: names given again, such as data and policy. Raises UserError."""
    return Session(
        quiet=quiet, command=command, processes=processes, registry=with_plugins(), force=force,
        again=NamedAgain(**again), place=place_of(place),
    )  # fmt: skip


def observed(session: Session, watch: bool, log: Sequence[str] | None) -> Session:
    """`session` with the live page and with loggers for other tools. Raises UserError for a tool that is not there."""
    return replace(session, watch=watch, callbacks=(*session.callbacks, *loggers(log or ())))


def search(
    what: str | None, overrides: dict[str, Any], run: Path | None, session: Session, model: str | None = None
) -> int:
    """Start a search; return the exit code. overrides: the options given, as `configuration` takes them. model: what it
    starts from instead of a space's seed network; without a space it uses moves that suit the model.

    Raises UserError for wrong input.
    """
    config, registry = configuration(what or MODEL, overrides, trained=model is not None)
    folder = run if run is not None else default_run_folder(config)
    start = None if model is None else starting(model)
    drive = partial(watched_run.search, config, folder, start=start)
    return _ended(drive, folder, replace(session, registry=registry))


def resume(
    name: str,
    session: Session,
    budget: str | None = None,
    generations: str | None = None,
    run: Path | None = None,
) -> int:
    """Continue a run; return the exit code. budget, generations: how much longer a finished one is continued, in the
    new folder `run`. Raises RunError if it can't be continued.
    """
    source, more = find_run(name), more_of(budget, generations)
    folder = folder_for(source, more, run)
    if more is None:
        return _ended(partial(watched_run.resume, source), folder, session)
    return _ended(partial(watched_run.longer, source, folder, more), folder, session)


def replay(name: str, run: Path | None, session: Session) -> int:
    """Repeat a finished run; return the exit code, 1 if the result differs. Raises RunError, UserError."""
    source = find_run(name)
    folder = run if run is not None else free_replay_folder(source)
    return _ended(partial(watched_run.replay, source, folder), folder, session)


def _ended(drive: Callable[[Session], Outcome | None], folder: Path, session: Session) -> int:
    """Drive a run, write its report and print how it ended; return the exit code."""
    with interrupts(STOPS, leaving=True) as pressed:
        try:
            outcome = drive(replace(session, interrupts=pressed))
            report = _reported(outcome.run) if outcome is not None else None
        except KeyboardInterrupt:
            outcome = report = None
    if outcome is None or outcome.stopped == "interrupted":
        _say_stopped(folder)
        return INTERRUPTED
    if not session.quiet:
        tables.show(tables.summary(outcome, report))
    return _compared(outcome.run, outcome.view, session.quiet)


def _compared(run: Path, view: LedgerView, quiet: bool) -> int:
    """Print whether a replay gave the same result; return the exit code, 0 if the run is not a replay."""
    again = replay_from(run, read_config(run).described)
    if again is None or again.digest == view.digest:
        if again is not None and not quiet:
            say(f"replay: the same decisions and weights as {again.of}, bit for bit")
        return 0
    try:
        fact = difference(read(Path(again.of)), view)
    except NasError:
        fact = "the original can't be read any more"
    warn(f"nas: replay: the result differs from {again.of}: {fact}")
    return 1


def _reported(run: Path) -> Path | None:
    """Write the report. The run is valid without one, so a failure is only printed."""
    from nas.report import write_report

    try:
        return write_report(run)
    except (NasError, OSError) as error:
        again = nas_command("report", run)
        warn(f"nas: the report was not written ({error}); try again with: {again}")
        return None


def _say_stopped(run: Path) -> None:
    if is_run(run):
        said = f"stopped; all results are kept in {run}; continue with: {nas_command('resume', run)}"
    else:
        said = "stopped before the run began"
    warn(f"nas: {said}")
