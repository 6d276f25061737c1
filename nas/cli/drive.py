"""`nas search` and `nas resume`: a run with someone watching, and what to say when it ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from nas.base.errors import NasError, UserError
from nas.base.text import one_line
from nas.cli import tables
from nas.cli.live import LiveView, watcher_for
from nas.config.run_config import RunConfig
from nas.execute.choose import check_executor, make_executor
from nas.execute.fork_server import ForkServer
from nas.inspect.status import find_run
from nas.ledger import LedgerView, read, read_config
from nas.ledger.shared import is_run
from nas.registry.configure import configure
from nas.registry.names import for_workers
from nas.registry.plugins import with_plugins
from nas.registry.value import Registry
from nas.run.events import Outcome, Watcher
from nas.run.lifecycle import default_run_folder
from nas.run.lifecycle import replay as replay_run
from nas.run.lifecycle import resume as resume_run
from nas.run.lifecycle import search as search_run
from nas.run.replay import difference, replay_from

INTERRUPTED = 130


def search(
    what: str, overrides: dict[str, Any], run: Path | None, quiet: bool, command: str, fork_server: ForkServer
) -> int:
    """Search anew; the exit code. overrides: the options given, as `make_config` takes them.

    Raises UserError for wrong input.
    """
    config, registry = configuration(what, overrides)
    _mention_gpu(config, quiet)
    if config.executor == "local":
        fork_server.load(for_workers(config, registry, ()))
    folder = run if run is not None else default_run_folder(config)
    executor = partial(make_executor, fork_server=fork_server)
    return _watched(
        quiet, folder, lambda watcher: search_run(config, folder, watcher, command, executor, registry)
    )


def resume(
    name: str,
    force: bool,
    quiet: bool,
    again: Mapping[str, Any],
    place: Mapping[str, Any],
    fork_server: ForkServer,
) -> int:
    """Go on with a run; the exit code. again: what is named once more, such as data and policy; place: see
    `lifecycle.resume`. Raises RunError when that can't be done.
    """
    folder = find_run(name)
    check_executor(place.get("executor", "local"), place.get("storage"))
    executor = partial(make_executor, fork_server=fork_server)

    def drive(watcher: Watcher) -> Outcome:
        return resume_run(
            folder, watcher, force, executor=executor, place=place, registry=with_plugins(), **again
        )

    return _watched(quiet, folder, drive)


def replay(
    name: str,
    run: Path | None,
    force: bool,
    quiet: bool,
    again: Mapping[str, Any],
    place: Mapping[str, Any],
    command: str,
    fork_server: ForkServer,
) -> int:
    """Make a finished run again; the exit code, 1 where it came to something else. Raises RunError, UserError."""
    source = find_run(name)
    check_executor(place.get("executor", "local"), place.get("storage"))
    folder = run if run is not None else _free_folder(source)
    executor = partial(make_executor, fork_server=fork_server)

    def drive(watcher: Watcher) -> Outcome:
        return replay_run(
            source, folder, watcher, command, force, executor=executor, place=place, registry=with_plugins(),
            **again,
        )  # fmt: skip

    return _watched(quiet, folder, drive)


def _free_folder(source: Path) -> Path:
    """The first free SOURCE-replay-N, beside it."""
    number = 1
    while (folder := source.with_name(f"{source.name}-replay-{number}")).exists():
        number += 1
    return folder


def _compared(run: Path, view: LedgerView, quiet: bool) -> int:
    """Say whether a replay came to what it replays; the exit code, 0 where the run is no replay."""
    again = replay_from(run, read_config(run).config)
    if again is None or again.digest == view.digest:
        if again is not None and not quiet:
            print(f"replay: all that {again.of} decided, and the same weights, bit for bit")
        return 0
    try:
        fact = difference(read(Path(again.of)), view)
    except NasError:
        fact = "which can't be read any more"
    print(f"nas: replay: it came to something else than {again.of}: {fact}", file=sys.stderr)
    return 1


def configuration(what: str, overrides: dict[str, Any]) -> tuple[RunConfig, Registry]:
    """The run's configuration from the options of the command line, and the registry with the code that they name."""
    values = dict(overrides)
    if "latency_from" in values:
        values["latency_from"] = str(find_run(values["latency_from"]).absolute())
    config, registry = configure(what, values, with_plugins())
    check_executor(config.executor, config.storage)
    if not config.address:  # else the cluster's nodes have it, or not
        _check_device(config.device)
    return config, registry


def _mention_gpu(config: RunConfig, quiet: bool) -> None:
    """A word where an accelerator stands idle."""
    import torch

    if config.device == "cpu" and not quiet and torch.cuda.is_available():
        print("nas: training on the CPU though there is a GPU; use it with --device cuda", file=sys.stderr)


def _check_device(name: str) -> None:
    """UserError when torch can't compute on the device `name` here."""
    import torch

    try:
        float(torch.zeros(1, device=torch.device(name)).sum())
    except Exception as error:  # torch says no in many ways: RuntimeError, AssertionError, …
        fact = one_line(str(error)).split(". ")[0][:160]
        raise UserError(
            f'device "{name}" can\'t be used here ({fact}); use cpu or another --device'
        ) from None


def _watched(quiet: bool, folder: Path, drive: Callable[[Watcher], Outcome]) -> int:
    """Have `drive` watched; the exit code. What is said, is said once the live view is gone."""
    with _interrupts() as interrupts:
        try:
            with _watching(quiet) as watcher:
                outcome = drive(watcher)
        except (KeyboardInterrupt, NasError):
            if not interrupts.count:
                raise
            _say_stopped(folder)
            return INTERRUPTED
        report = _reported(outcome.run)
    if outcome.stopped == "interrupted":
        _say_stopped(outcome.run)
        return INTERRUPTED
    if not quiet:
        tables.show(tables.summary(outcome, report))
    return _compared(outcome.run, outcome.view, quiet)


def _reported(run: Path) -> Path | None:
    """Write the report; a run without one is still a run, so that a failure is only said."""
    from nas.report import write_report

    try:
        return write_report(run)
    except (NasError, OSError) as error:
        print(f"nas: the report was not written ({error}); try again with: nas report {run}", file=sys.stderr)
        return None


def _say_stopped(run: Path) -> None:
    if is_run(run):
        said = f"stopped; everything told is kept in {run}, go on with: nas resume {run}"
    else:
        said = "stopped before the run began"
    print(f"nas: {said}", file=sys.stderr)


@contextmanager
def _watching(quiet: bool) -> Generator[Watcher]:
    """A watcher that leaves the terminal as it was, however the run ends."""
    watcher = watcher_for(quiet)
    try:
        yield watcher
    finally:
        if isinstance(watcher, LiveView):
            watcher.close()


@dataclass
class _Interrupts:
    """Counts what asks the process to stop. The first stops the run cleanly; others are told to wait."""

    count: int = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt
        if self.count == 2:
            print("\nnas: stopping already, one moment", file=sys.stderr, flush=True)


@contextmanager
def _interrupts() -> Generator[_Interrupts]:
    """Ctrl-C and a polite kill stop the run once; pressing again changes nothing."""
    interrupts = _Interrupts()
    former = {number: signal.signal(number, interrupts.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in former.items():  # once stopping, the process is left alone till it has ended
            signal.signal(number, signal.SIG_IGN if interrupts.count else handler)
