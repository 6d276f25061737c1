"""What the driver and the fork server tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.config.run_config import RunConfig


@dataclass(frozen=True)
class Load:
    """To the fork_server: hold the data of this configuration."""

    config: RunConfig


@dataclass(frozen=True)
class Fork:
    """To the fork_server, followed by the worker's end of a pipe: fork worker `number` of this run."""

    number: int
    config: RunConfig
    run: Path
    data_digest: str
    log: Path


@dataclass(frozen=True)
class Kill:
    """To the fork_server: kill worker `number` and all that it started."""

    number: int


@dataclass(frozen=True)
class Ended:
    """From the server: worker `number` is gone. code: as of subprocess, negative for a signal. not_started: why it
    could not be forked.
    """

    number: int
    code: int
    not_started: str | None = None
