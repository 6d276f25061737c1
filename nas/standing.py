"""Run folders seen from outside: which there are, how each stands, and who drives it. Reads only."""

from __future__ import annotations

import difflib
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from nas.errors import RunError, UserError
from nas.ledger import LedgerView, Result, read, read_config
from nas.ledger.front import Front, front_of_run
from nas.ledger.shared import is_run
from nas.text import clip

RUNS = Path("runs")
CONFIG = "config.json"
LOCK = "lock"


@dataclass(frozen=True)
class Standing:
    """How a run stands. Times in seconds, accuracies as shares of one; None is not known, or not yet.

    state: running (a driver holds the lock), finished, stopped, or damaged. generation: the last with a
    complete trial, 0 the seed's. overhead: share of wall time in which nothing trained or was evaluated.
    next: the command that goes on. front: of a search for accuracy and a cost. keep: which checkpoints stay (--keep);
    checkpoints, checkpoint_bytes: those that are there; removed: those that were removed to bound the disk.
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
    front: Front | None = None

    def to_json(self) -> str:
        """One JSON object, its keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def find_run(name: str) -> Path:
    """The run folder at the path `name`, or of that name below ./runs.

    Raises RunError when there is none, or what is there is no run.
    """
    try:
        places = (Path(name).expanduser(), RUNS / name) if name else ()
        found = [place for place in places if (place / CONFIG).exists() or is_run(place)]
        others = [place for place in places if place.exists()]
    except (OSError, RuntimeError, ValueError):  # too long a name, no such user's home, a NUL
        found, others = [], []
    if found:
        return found[0]
    if others and others[0].is_dir():
        raise RunError(f"{others[0]} is no run folder, it has no {CONFIG}; nas runs lists those below {RUNS}")
    if others:
        raise RunError(f"{others[0]} is a file; name the folder of a run")
    names = [run.name for run in run_folders(RUNS)]
    near = difflib.get_close_matches(Path(name).name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"nas runs lists those below {RUNS}"
    raise RunError(f'there is no run "{clip(name, 80)}", neither here nor in {RUNS}; {hint}')


def run_folders(folder: Path) -> list[Path]:
    """The run folders directly in `folder`, newest first. Raises UserError when it can't be read."""
    if not folder.exists():
        return []
    try:
        configs = [entry / CONFIG for entry in folder.iterdir() if (entry / CONFIG).is_file()]
        dated = [(config.stat().st_mtime_ns, config.parent) for config in configs]
    except OSError as error:
        raise UserError(
            f"{folder} can't be listed ({error.strerror}); name the folder that holds the runs"
        ) from None
    return [entry for _, entry in sorted(dated, reverse=True)]


def driver_of(run: Path) -> str | None:
    """Who drives the run now, as "process 123 on host", or None."""
    try:
        descriptor = os.open(run / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)  # frees the lock, had we got it
    return None


def _holder(descriptor: int) -> str:
    try:
        name: Any = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(name['pid'])} on {str(name['host'])[:100]} since {str(name['since'])[:40]}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def disk_bytes(run: Path) -> int:
    """Bytes of all files below the run folder."""
    total = 0
    for folder, _, files in os.walk(run):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # a driver at work has just taken it away
                continue
    return total


def _checkpoints(run: Path) -> list[Path]:
    """The folders of the checkpoints, those that are being written left out."""
    try:
        return [entry for entry in (run / "checkpoints").iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []


def spent(result: Result) -> float:
    """Wall seconds of one trial's own work."""
    return sum(value for name, value in result.seconds.items() if not name.startswith("busy"))


def overhead(view: LedgerView, wall: float) -> float:
    """The share of `wall` seconds in which no child was inside training or evaluation."""
    spans = sorted(
        (trial.result.seconds["busy_from"], trial.result.seconds["busy_to"])
        for trial in view.complete
        if trial.result is not None and {"busy_from", "busy_to"} <= trial.result.seconds.keys()
    )
    busy, reached = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return max(0.0, 1 - busy / wall) if wall > 0 else 0.0


def standing(run: Path) -> Standing:
    """How the run in the folder `run` stands. Raises RunError, LedgerDamaged among them, when it can't be read."""
    driver = driver_of(run)
    return _standing(run, read_config(run).config, read(run), driver)


def standing_or_problem(run: Path) -> Standing:
    """As `standing`, but a run that can't be read stands as damaged, with the problem in words."""
    try:
        return standing(run)
    except UserError as error:
        empty = _standing(run, {}, LedgerView(()), driver_of(run))
        return replace(empty, state="damaged", problem=str(error), next="restore the folder from a copy")


def _standing(run: Path, described: Mapping[str, Any], view: LedgerView, driver: str | None) -> Standing:
    inner = described.get("config")
    config = cast(Mapping[str, Any], inner) if isinstance(inner, dict) else {}
    wall = _number(view.notes.get("wall"))
    searched = [trial.job.generation for trial in view.complete if trial.job.kind != "final"]
    best = view.final or view.best
    result = best.result if best is not None else None
    state = "running" if driver is not None else "finished" if view.final is not None else "stopped"
    kept = _checkpoints(run)
    following = {
        "running": f"nas status {run}",
        "finished": f"nas export {run} --to DIR",
        "stopped": f"nas resume {run}",
    }
    return Standing(
        run=str(run),
        state=state,
        space=_text(config.get("space")),
        data=_text(config.get("data")),
        seed=_number(config.get("seed")),
        generation=max(searched, default=None),
        generations=_number(config.get("generations")),
        budget=_number(config.get("budget")),
        complete=len(view.complete),
        failed=sum(trial.state == "failed" for trial in view.trials),
        running=sum(trial.state == "running" for trial in view.trials),
        best_trial=best.key if best is not None else None,
        best_moves=best.job.moves if best is not None else None,
        best_val_accuracy=result.scores.get("val_accuracy") if result is not None else None,
        best_params=result.params if result is not None else None,
        test_accuracy=result.scores.get("test_accuracy") if result is not None else None,
        seconds=wall,
        overhead=None if wall is None else overhead(view, wall),
        disk_bytes=disk_bytes(run),
        keep=_text(config.get("keep")) or "all",
        checkpoints=len(kept),
        checkpoint_bytes=sum(disk_bytes(entry) for entry in kept),
        removed=len(view.dropped - {entry.name for entry in kept}),
        digest=view.digest if view.trials else None,
        driver=driver,
        command=_text(described.get("command")),
        problem=None,
        next=following[state],
        front=front_of_run(view, config),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
