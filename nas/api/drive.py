"""A run driven with somebody watching: what `nas.search` and the command line share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nas.api.interrupts import Interrupts
from nas.base.errors import NasError
from nas.base.text import count, size
from nas.config.run_config import RunConfig
from nas.data.kept import FILE, KeptParts, write_kept
from nas.execute.choose import make_executor
from nas.execute.processes import WorkerProcesses
from nas.ledger.shared import is_run
from nas.progress.choose import watching
from nas.registry.names import for_workers
from nas.registry.ours import REGISTRY
from nas.registry.value import Registry
from nas.run import lifecycle
from nas.run.events import Callback, Callbacks, Outcome


@dataclass(frozen=True)
class NamedAgain:
    """What a command that continues a run names once more, where it is code: see `lifecycle.resume`."""

    data: str | None = None
    space: str | None = None
    policy: str | None = None
    objective: str | None = None
    moves: Sequence[str] = ()


@dataclass(frozen=True)
class Session:
    """How a run is driven: who watches it, and what for.

    interrupts: counts Ctrl-C. command: what was called, for the record. processes: what starts workers, if it exists
    already. registry: what the names in the configuration mean. again, place: see `lifecycle.resume`.
    """

    interrupts: Interrupts
    quiet: bool = False
    callbacks: Sequence[object] = ()
    command: str = ""
    processes: WorkerProcesses | None = None
    registry: Registry = REGISTRY
    force: bool = False
    again: NamedAgain = field(default_factory=NamedAgain)
    place: Mapping[str, Any] = field(default_factory=dict[str, Any])


def search(config: RunConfig, run: Path, session: Session, kept: KeptParts | None = None) -> Outcome | None:
    """`lifecycle.search`, watched. kept: the data, where they were given as arrays; they become part of the run."""
    if session.processes is not None and config.executor == "local":
        session.processes.load(for_workers(config, session.registry, ()))
    made = partial(lifecycle.search, config, run, command=session.command, registry=session.registry)
    if kept is None:
        return _watched(run, session, made)
    lifecycle.check_new(run)
    with _keeping(run, kept, session.quiet):
        return _watched(run, session, made)


def resume(run: Path, session: Session) -> Outcome | None:
    """`lifecycle.resume`, watched."""
    return _watched(run, session, partial(lifecycle.resume, run, **_again(session)))


def replay(source: Path, run: Path, session: Session) -> Outcome | None:
    """`lifecycle.replay`, watched."""
    made = partial(lifecycle.replay, source, run, command=session.command, **_again(session))
    return _watched(run, session, made)


def _again(session: Session) -> dict[str, Any]:
    """The arguments that `lifecycle.resume` and `lifecycle.replay` share."""
    return {
        **asdict(session.again), "force": session.force, "place": session.place, "registry": session.registry
    }  # fmt: skip


def _watched(run: Path, session: Session, drive: Callable[..., Outcome]) -> Outcome | None:
    """What came of the run; None where it was stopped before a trial had ended. The view is gone by then.

    Raises what `drive` and the callbacks do; KeyboardInterrupt where it was stopped before there was a run.
    """
    try:
        with watching(session.quiet) as view:
            callback: Callback = Callbacks((view, *session.callbacks))
            return drive(callback=callback, executor=partial(make_executor, processes=session.processes))
    except (KeyboardInterrupt, NasError):
        if not session.interrupts.count:
            raise
        if not is_run(run):
            raise KeyboardInterrupt from None
        return None


@contextmanager
def _keeping(run: Path, kept: KeptParts, quiet: bool) -> Generator[None]:
    """Put the data into the run's folder; out again where no run comes of it."""
    made = not run.exists()
    path = write_kept(run, kept)
    if not quiet:
        print(f"data: {count(kept.images)} images are kept in {path} ({size(path.stat().st_size)})")
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
    """`config` on the arrays that `run` is to keep."""
    return config.model_copy(update={"data": kept.name, "data_root": str(run.absolute())})
