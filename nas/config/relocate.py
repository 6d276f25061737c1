"""A run carried on elsewhere: on another machine, by another executor, with its data in another place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.base.errors import RunError
from nas.config.run_config import RunConfig, validated
from nas.data import is_kept, runs_code

_RAY = ("address", "gpus_per_child", "storage")
_FOLDER = "imagefolder:"


def relocated(config: RunConfig, place: Mapping[str, Any]) -> RunConfig:
    """`config` with what decides none of a run's numbers as it is here: `data_root`, `executor`, `address`,
    `gpus_per_child`, `storage`, `workers`.

    Where an executor is given, the settings of the former one are forgotten. Raises UserError.
    """
    kept = config.model_dump()
    if "executor" in place:
        kept |= dict.fromkeys(_RAY)
    return validated({**kept, **place})


def with_data(run: Path, config: RunConfig, given: str | None, command: str = "resume") -> RunConfig:
    """`config` with the data that the command names: the run's own, though an image folder may lie elsewhere now.

    Whether the content is the same is for their digest to say. Raises RunError for others, and where data that are
    code are not named again. command: the one that asks.
    """
    moved = given is not None and given.startswith(_FOLDER) and config.data.startswith(_FOLDER)
    if given is not None and given != config.data and not moved:
        raise RunError(
            f"{command}: {run} searches on {config.data}, not on {given}; leave --data out or give that"
        )
    if runs_code(config.data) and given is None:
        raise RunError(
            f"{command}: the data of {run} is code, {config.data}, which only a command may name; "
            f"if you trust it go on with: nas {command} {run} --data {config.data}"
        )
    if is_kept(config.data):  # in the run's folder, wherever that lies now
        return config.model_copy(update={"data_root": str(run.absolute())})
    return config if given is None else config.model_copy(update={"data": given})
