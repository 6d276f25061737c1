"""Continues a run from Python, for `nas.resume` and `Run.resume`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.api import watched_run
from nas.api.interrupts import interrupts
from nas.api.options import place_of
from nas.api.watched_run import NamedAgain, Session
from nas.registry.plugins import with_plugins
from nas.registry.registry import Registry


def resume_folder(
    folder: Path,
    *,
    data: str | None = None,
    space: str | None = None,
    policy: str | None = None,
    objective: str | None = None,
    moves: Sequence[str] = (),
    force: bool = False,
    quiet: bool = False,
    callbacks: Sequence[object] = (),
    registry: Registry | None = None,
    **place: Any,
) -> None:
    """Continue the run in `folder`. Arguments and errors are those of `nas.resume`."""
    settings, again = place_of(place), NamedAgain(data, space, policy, objective, tuple(moves))
    known = with_plugins() if registry is None else registry
    with interrupts() as pressed:
        session = Session(pressed, quiet, tuple(callbacks), "", None, known, force, again, settings)
        watched_run.resume(folder, session)
