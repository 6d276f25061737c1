"""Runs that many tests look at: made once, copied by whoever goes on with one."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_support import Inline, Recorder, tiny

from nas.run.events import Outcome
from nas.run.lifecycle import search


@dataclass(frozen=True)
class Finished:
    run: Path
    outcome: Outcome
    watcher: Recorder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny run, from start to end without interruption. Not to be changed."""
    run = tmp_path_factory.mktemp("engine") / "finished"
    watcher = Recorder()
    return Finished(run, search(tiny(), run, watcher, "nas search digits", Inline), watcher)


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, stopped by Ctrl-C in the middle of its first generation. Not to be changed."""
    run = tmp_path_factory.mktemp("engine") / "interrupted"
    outcome = search(tiny(), run, Recorder(stop_after=2), "nas search digits", Inline)
    assert outcome.stopped == "interrupted"
    return run


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda run: Path(shutil.copytree(run, tmp_path / "copy"))
