"""The list of run folders and the status of each. Only reads."""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.base.errors import RunError, UserError
from nas.base.text import clip, nas_command
from nas.inspect.current_driver import Driver, driver_of, holder_of_lock, lease_of
from nas.inspect.verdict import beside, remarks
from nas.ledger import LedgerView, read, read_config
from nas.ledger.described import Described
from nas.ledger.run_files import is_folder
from nas.ledger.scores import chosen
from nas.ledger.shared import is_run
from nas.ledger.types import State
from nas.ledger.wall_time import overhead
from nas.policies.front import Front, front_of_run

if TYPE_CHECKING:
    from nas.ledger.lease_status import Look

RUNS = Path("runs")
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
NOT_HERE = "checkpoints are not in this folder: lost, or never in this copy of the run"


@dataclass(frozen=True)
class RunStatus:
    """The status of a run. Times in seconds, accuracies as fractions; None: not known, or not yet.

    state: running (a driver holds the lock, or on another host the lease of a shared database), finished, stopped,
    silent (the lease is held on another host, without a heartbeat: its driver may be alive or not), or damaged. driver:
    the holder, "process 1 on host since" its local time. until: the local time before which nobody else can take its
    lease; None for a lock. generation: the last with a complete trial; 0 is the seed's. overhead: fraction of wall time
    in which nothing was trained or evaluated. next: the command to continue with. front: of a search for accuracy and a
    cost. keep: which checkpoints are kept (--keep). checkpoints, checkpoint_bytes: those that exist. removed: the
    number removed to save disk space. score: the criterion of the task's own score, "accuracy" or "min rmse";
    best_score, test_score: its values. select: the criterion by which the search selects; best_value: the validation
    score of that name. beside, remarks: see `nas.inspect.verdict`. after: the finished run whose search it continues.
    """

    run: str
    state: str
    space: str | None
    data: str | None
    seed: int | None
    generation: int | None
    generations: int | None
    budget: float | None
    complete: int
    failed: int
    running: int
    best_trial: str | None
    best_moves: str | None
    best_val_accuracy: float | None
    best_val_loss: float | None
    best_params: int | None
    test_accuracy: float | None
    seconds: float | None
    overhead: float | None
    disk_bytes: int
    keep: str
    checkpoints: int
    checkpoint_bytes: int
    removed: int
    digest: str | None
    driver: str | None
    command: str | None
    problem: str | None
    next: str
    score: str = "accuracy"
    best_score: float | None = None
    test_score: float | None = None
    front: Front | None = None
    until: str | None = None
    beside: str | None = None
    remarks: tuple[str, ...] = ()
    select: str = "accuracy"
    best_value: float | None = None
    after: str | None = None

    def to_json(self) -> str:
        """Return one JSON object with its keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def find_run(name: str) -> Path:
    """Return the run folder at the path `name`, or of that name in ./runs.

    Raises RunError if there is none, or if it is not a run.
    """
    try:
        places = (Path(os.path.expanduser(name)), RUNS / name) if name else ()
        found = [place for place in places if (place / CONFIG).exists() or is_run(place)]
        others = [place for place in places if place.exists()]
    except (OSError, RuntimeError, ValueError):  # name too long, unknown user's home, NUL character
        found, others = [], []
    if found:
        return found[0]
    if others and others[0].is_dir():
        raise RunError(f"{others[0]} is not a run folder, it has no {CONFIG}; list the runs with: nas runs")
    if others:
        raise RunError(f"{others[0]} is a file; name the folder of a run")
    names = [run.name for run in run_folders(RUNS)]
    near = difflib.get_close_matches(Path(name).name, names, 1)
    hint = f"did you mean {near[0]}?" if near else "list the runs with: nas runs"
    raise RunError(f'run "{clip(name, 80)}" does not exist, neither here nor in {RUNS}; {hint}')


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders directly in `folder`, newest first. Raises UserError if it can't be read."""
    try:
        if not folder.exists():
            return []
        dated = [(when, entry) for entry in folder.iterdir() if (when := _changed(entry)) is not None]
    except OSError as error:
        raise UserError(
            f"{folder} can't be listed ({error.strerror}); name the folder that contains the runs"
        ) from None
    return [entry for _, entry in sorted(dated, reverse=True)]


def _changed(folder: Path) -> int | None:
    """Return when a run's configuration was written; 0 for a folder that is private; None if it is not a run."""
    try:
        found = (folder / CONFIG).stat()
    except PermissionError:
        return 0
    except OSError:
        return None
    return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else None


def disk_bytes(folder: Path | str, without: str = "") -> int:
    """Return the total size of all files in a folder, except those in its folder `without`, in bytes."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:  # a running driver removes some of them meanwhile
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
                elif entry.name != without:
                    total += disk_bytes(entry.path)
    return total


def _checkpoints(run: Path) -> dict[str, int]:
    """Return the sizes of the checkpoints by their name, those that are being written too."""
    with suppress(OSError, RunError):
        if is_folder(run / CHECKPOINTS):
            with os.scandir(run / CHECKPOINTS) as entries:
                return {entry.name: disk_bytes(entry.path) for entry in entries if not entry.is_symlink()}
    return {}


def run_status(run: Path, first: Look | None = None, view: LedgerView | None = None) -> RunStatus:
    """Return the status of the run in the folder `run`. Raises RunError or LedgerDamaged if it can't be read.

    first: as for `driver_of`. view: of the run, where the caller has read it.
    """
    described = read_config(run).described
    driver = driver_of(run, first)
    return _status(run, described, read(run) if view is None else view, driver)


def statuses(runs: Sequence[Path]) -> list[RunStatus]:
    """Return the status of each run; one that can't be read is "damaged", with a description of the problem.

    All leases are read first, so that the wait for heartbeats is spent only once.
    """
    looks: list[Look | UserError | None] = []
    for run in runs:
        try:
            looks.append(lease_of(run))
        except UserError as error:  # perhaps after waiting long for a database
            looks.append(error)
    return [
        _damaged(run, first) if isinstance(first, UserError) else status_or_problem(run, first)
        for run, first in zip(runs, looks, strict=True)
    ]


def status_or_problem(run: Path, first: Look | None = None) -> RunStatus:
    """As `run_status`, but a run that can't be read is "damaged", with a description of the problem."""
    try:
        return run_status(run, first)
    except UserError as error:
        return _damaged(run, error)


def _damaged(run: Path, error: UserError) -> RunStatus:
    here = holder_of_lock(run)
    empty = _status(run, Described(), LedgerView(()), None if here is None else Driver(here))
    return replace(empty, state="damaged", problem=str(error), next="restore the folder from a copy")


def _status(run: Path, described: Described, view: LedgerView, driver: Driver | None) -> RunStatus:
    config = described.config
    wall = view.notes.wall or None
    searched = [trial.job.generation for trial in view.complete if not trial.job.final]
    best = view.best
    result = best.result if best is not None else None
    if driver is not None and driver.silent and view.final is not None:
        driver = None  # it died after the final training, before it released the lease
    state = "finished" if view.final is not None else "stopped"
    if driver is not None:
        state = "silent" if driver.silent else "running"
    stored = _checkpoints(run)
    kept = {name: size for name, size in stored.items() if not name.startswith(".")}
    missing = len(view.missing(kept))
    which, value = (
        ("accuracy", None) if result is None else chosen(result.scores, view.notes.select, result.main)
    )
    policy = config.policy or ""
    resume = nas_command("resume", run, *(("--policy", policy) if ":" in policy else ()))
    following = {
        "running": nas_command("status", run),
        "finished": nas_command("export", run, "--to", "DIR"),
        "stopped": resume,
        "silent": resume,
    }
    if missing and driver is None:
        following[state] = nas_command("fsck", run, "--repair")
    return RunStatus(
        run=str(run),
        state=state,
        space=config.space,
        data=config.data,
        seed=config.seed,
        generation=max(searched, default=None),
        generations=config.generations,
        budget=config.budget,
        complete=len(view.complete),
        failed=sum(trial.state is State.FAILED for trial in view.trials),
        running=sum(trial.running for trial in view.trials),
        best_trial=best.key if best is not None else None,
        best_moves=best.job.moves if best is not None else None,
        best_val_accuracy=result.scores.get("val_accuracy") if result is not None else None,
        best_val_loss=result.scores.get("val_loss") if result is not None else None,
        best_params=result.params if result is not None else None,
        test_accuracy=result.scores.get("test_accuracy") if result is not None else None,
        seconds=wall,
        overhead=None if wall is None else overhead(view, wall),
        disk_bytes=disk_bytes(run, CHECKPOINTS) + sum(stored.values()),
        keep=config.keep,
        checkpoints=len(kept),
        checkpoint_bytes=sum(kept.values()),
        removed=len(view.dropped - kept.keys()),
        digest=view.digest if view.trials else None,
        driver=None if driver is None else driver.name,
        command=described.command,
        problem=f"{missing} of {len(view.checkpoints)} {NOT_HERE}" if missing else None,
        next=following[state],
        score="accuracy" if result is None else result.main,
        best_score=None if result is None else result.value,
        test_score=None if result is None else result.tested,
        front=front_of_run(view, config),
        until=None if driver is None else driver.until,
        beside=beside(view, config),
        remarks=remarks(view, config),
        select=which,
        best_value=value,
        after=config.after,
    )
