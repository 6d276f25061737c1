"""Drives a run with a progress view and callbacks, for `nas.search` and the command line."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.interrupts import Interrupts
from nas.base.errors import NasError, UserError
from nas.base.printing import say
from nas.base.streams import open_standard_descriptors
from nas.base.text import count, size
from nas.base.user_code import where_raised
from nas.config.run_config import RunConfig
from nas.data.run_arrays import FILE, KeptParts, write_kept
from nas.execute.make_executor import make_executor
from nas.execute.worker_processes import WorkerProcesses
from nas.ledger.shared import is_run
from nas.progress.choose_view import watching
from nas.registry.defaults import REGISTRY
from nas.registry.named_code import for_workers
from nas.registry.registry import Registry
from nas.run import lifecycle
from nas.run.events import Callback, Callbacks, Outcome
from nas.run.longer import More
from nas.run.longer import longer as continued

if TYPE_CHECKING:
    from nas.report.companion import Companion


@dataclass(frozen=True)
class NamedAgain:
    """The names that a command that continues a run gives again, if they are code: see `lifecycle.resume`."""

    data: str | None = None
    task: str | None = None
    space: str | None = None
    policy: str | None = None
    objective: str | None = None
    moves: Sequence[str] = ()


@dataclass(frozen=True)
class Session:
    """How a run is driven: by which command, with which callbacks and registry.

    interrupts: counts Ctrl-C. command: the call, for the record. processes: the worker processes, if they exist
    already. registry: resolves the names in the configuration. again, place, began: see `lifecycle.resume`. watch:
    whether the live page is served meanwhile.
    """

    interrupts: Interrupts = field(default_factory=Interrupts)
    quiet: bool = False
    callbacks: Sequence[object] = ()
    command: str = ""
    processes: WorkerProcesses | None = None
    registry: Registry = REGISTRY
    force: bool = False
    again: NamedAgain = field(default_factory=NamedAgain)
    place: Mapping[str, Any] = field(default_factory=dict[str, Any])
    began: float | None = None
    watch: bool = False


def search(
    config: RunConfig,
    run: Path,
    session: Session,
    kept: KeptParts | None = None,
    start: lifecycle.Starting | None = None,
) -> Outcome | None:
    """`lifecycle.search` with progress and callbacks. kept: data given as arrays, which become part of the run."""
    if session.processes is not None and config.executor == "local":
        session.processes.load(for_workers(config, session.registry, ()))
    made = partial(
        lifecycle.search, config, run, command=session.command, registry=session.registry, began=session.began,
        start=start,
    )  # fmt: skip
    if kept is None:
        return _watched(run, session, made)
    lifecycle.check_new(run)
    with _keeping(run, kept, session.quiet):
        return _watched(run, session, made)


def resume(run: Path, session: Session) -> Outcome | None:
    """`lifecycle.resume` with progress and callbacks."""
    return _watched(run, session, partial(lifecycle.resume, run, began=session.began, **_again(session)))


def longer(source: Path, run: Path, more: More, session: Session) -> Outcome | None:
    """`nas.run.longer.longer` with progress and callbacks."""
    made = partial(
        continued, source, run, more, command=session.command, began=session.began, **_again(session)
    )
    return _watched(run, session, made)


def replay(source: Path, run: Path, session: Session) -> Outcome | None:
    """`lifecycle.replay` with progress and callbacks."""
    made = partial(lifecycle.replay, source, run, command=session.command, **_again(session))
    return _watched(run, session, made)


def _again(session: Session) -> dict[str, Any]:
    """The arguments that `lifecycle.resume` and `lifecycle.replay` share."""
    return {
        **asdict(session.again), "force": session.force, "place": session.place, "registry": session.registry
    }  # fmt: skip


def _watched(run: Path, session: Session, drive: Callable[..., Outcome]) -> Outcome | None:
    """The outcome of the run; None if it was stopped before a trial had ended. The progress view is closed by then.

    Raises what `drive` and the callbacks raise; KeyboardInterrupt if it was stopped before the run was created.
    """
    open_standard_descriptors()
    try:
        with watching(session.quiet) as view, ExitStack() as stack:
            page = [stack.enter_context(closing(_companion(view)))] if session.watch else []
            callback: Callback = Callbacks((view, *page, *session.callbacks))
            return drive(callback=callback, executor=partial(make_executor, processes=session.processes))
    except SystemExit as error:  # it would end the process, perhaps as if all had gone well
        fact = f"code that the search ran called sys.exit ({where_raised(error)})"
        raise UserError(f"search: {fact}; remove that call") from error
    except (KeyboardInterrupt, NasError):
        if not session.interrupts.count:
            raise
        if not is_run(run):
            raise KeyboardInterrupt from None
        return None


def _companion(view: Callback) -> Companion:
    """The live page of a run, in a process of its own."""
    from nas.report.companion import Companion  # takes long to import

    return Companion(view)


@contextmanager
def _keeping(run: Path, kept: KeptParts, quiet: bool) -> Generator[None]:
    """Write the data into the run's folder; remove them again if the run is not created."""
    made = not run.exists()
    path = write_kept(run, kept)
    if not quiet:
        say(f"data: {count(kept.images)} images are kept in {path} ({size(path.stat().st_size)})")
    try:
        yield
    finally:
        if not is_run(run):
            with suppress(OSError):
                (run / FILE).unlink()
                (run / "lock").unlink(missing_ok=True)
                if made:
                    run.rmdir()


def with_kept(config: RunConfig, run: Path, kept: KeptParts) -> RunConfig:
    """`config` with the arrays that `run` will keep as its data."""
    return config.model_copy(update={"data": kept.name, "data_root": str(run.absolute())})
