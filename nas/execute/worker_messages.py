"""Messages between the driver and the fork server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.config.run_config import RunConfig


@dataclass(frozen=True)
class Load:
    """To the fork server: load the data of this configuration."""

    config: RunConfig


@dataclass(frozen=True)
class Start:
    """Start worker `number` of this run. To a fork server, the worker's end of a pipe is sent next."""

    number: int
    config: RunConfig
    run: Path
    data_digest: str
    log: Path


@dataclass(frozen=True)
class Kill:
    """To the fork server: kill worker `number` and all that it started."""

    number: int


@dataclass(frozen=True)
class Ended:
    """Worker `number` has ended. code: exit code, negative for a signal. not_started: why it could not be started."""

    number: int
    code: int
    not_started: str | None = None
