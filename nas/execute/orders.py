"""What the driver tells what starts its workers, and what it is told of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.config.run_config import RunConfig


@dataclass(frozen=True)
class Load:
    """To the fork_server: hold the data of this configuration."""

    config: RunConfig


@dataclass(frozen=True)
class Start:
    """Start worker `number` of this run. Sent to the fork server it is followed by the worker's end of a pipe."""

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
    """Worker `number` is gone. code: as of subprocess, negative for a signal. not_started: why it could not be."""

    number: int
    code: int
    not_started: str | None = None
