"""Continues a run elsewhere: on another machine, by another executor, with its data in another folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.base.errors import RunError
from nas.base.text import nas_command
from nas.config.run_config import RAY, TASKS, RunConfig, validated
from nas.data import is_kept, runs_code

_FILES = ("imagefolder:", "csv:", "npz:")


def relocated(config: RunConfig, place: Mapping[str, Any]) -> RunConfig:
    """`config` with the settings in `place`, which decide no results: `data_root`, `executor`, `address`,
    `gpus_per_child`, `storage`, `workers`.

    If an executor is given, the settings of the former one are reset. Raises UserError.
    """
    kept = config.model_dump()
    if "executor" in place:
        kept |= dict.fromkeys(RAY)
    return validated({**kept, **place})


def with_data(run: Path, config: RunConfig, given: str | None, command: str = "resume") -> RunConfig:
    """`config` with the data that the command names, which must be the run's; a folder or file may have moved.

    The caller compares contents by digest. Raises RunError for other data, and if data that are code are not named
    again. command: the name of the command, for errors.
    """
    moved = given is not None and any(
        given.startswith(prefix) and config.data.startswith(prefix) for prefix in _FILES
    )
    if given is not None and given != config.data and not moved:
        raise RunError(
            f"{command}: {run} searches on {config.data}, not on {given}; omit --data or give {config.data}"
        )
    if runs_code(config.data) and given is None:
        raise RunError(
            f"{command}: the data of {run} is code, {config.data}, which only a command may name; "
            f"if you trust it, run: {nas_command(*command.split(), run, '--data', config.data)}"
        )
    if is_kept(config.data):  # in the run's folder, which may have moved
        return config.model_copy(update={"data_root": str(run.absolute())})
    return config if given is None else config.model_copy(update={"data": given})


def with_task(run: Path, config: RunConfig, given: str | None, command: str = "resume") -> RunConfig:
    """`config`, whose task a command names again where it is code. Raises RunError for another task, and without it."""
    if given is not None and given != config.task:
        fact = f"{command}: the task of {run} is {config.task or 'what its targets suggest'}, not {given}"
        raise RunError(f"{fact}; omit --task or give the run's")
    if config.task is not None and config.task not in TASKS and given is None:
        named = [*(("--data", config.data) if runs_code(config.data) else ()), "--task", config.task]
        raise RunError(
            f"{command}: the task of {run} is code, {config.task}, which only a command may name; if you trust it, "
            f"run: {nas_command(*command.split(), run, *named)}"
        )
    return config
