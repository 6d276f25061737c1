"""Names of new runs' folders."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

from nas.config.run_config import RunConfig
from nas.data import is_kept

RUNS = Path("runs")


def default_run_folder(config: RunConfig) -> Path:
    """The first free runs/SPACE-DATA-NNN."""
    spec = "arrays" if is_kept(config.data) else config.data
    space, data = (
        "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:40] for name in (config.space, spec)
    )
    folders = (RUNS / f"{space}-{data}-{number:03d}" for number in count(1))
    return next(folder for folder in folders if not folder.exists())


def free_replay_folder(source: Path) -> Path:
    """The first free SOURCE-replay-N, next to `source`."""
    return _numbered(source, f"{source.name}-replay")


def free_longer_folder(source: Path) -> Path:
    """The first free SOURCE-more-N, next to `source`; RUN-more-2, say, for RUN-more-1 too."""
    return _numbered(source, f"{re.sub(r'-more-[0-9]+$', '', source.name)}-more")


def _numbered(source: Path, name: str) -> Path:
    folders = (source.with_name(f"{name}-{number}") for number in count(1))
    return next(folder for folder in folders if not folder.exists())
