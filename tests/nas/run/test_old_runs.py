"""Runs of format 1, made by the version before jobs were typed: they open, report, resume to their end and replay.

golden/format-1-runs.tar.xz: for each of a few searches one that was killed (kill -9) and the same one whole. Made once,
never again. Where this machine computes the same bits as the one that made them, the digests must be equal too.
"""

import json
import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.base.errors import RunError
from nas.base.machine import machine
from nas.execute.make_executor import make_executor
from nas.inspect.fsck import check
from nas.inspect.status import run_status
from nas.ledger import LedgerView, read, read_config
from nas.report.page import write_report
from nas.run.events import Silent
from nas.run.lifecycle import replay, resume

ARCHIVE = Path(__file__).parent / "golden" / "format-1-runs.tar.xz"
SEARCHES = ("climb", "evolution", "pareto", "final")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def same_bits(run: Path) -> bool:
    """Whether this machine computes what the one that made `run` did, as far as can be told."""
    made = read_config(run)
    before: Any = made.config["machine"]
    now = machine()
    return before["processor"] == now["processor"] and before["capability"] == now["capability"] and (
        made.versions["torch"] == torch.__version__.partition("+")[0]
    )  # fmt: skip


def outline(view: LedgerView) -> list[tuple[Any, ...]]:
    """What a search decides whatever the bits are."""
    return [(record.key, record.job.kind, record.job.seed, record.state) for record in view.trials]


@pytest.mark.parametrize("name", SEARCHES)
def test_an_old_run_opens_and_reports(old: Path, tmp_path: Path, name: str) -> None:
    for state in ("killed", "whole"):
        run = shutil.copytree(old / f"{name}-{state}", tmp_path / state)
        view = read(run)
        assert view.searched
        found = run_status(run)
        assert found.state == ("finished" if state == "whole" else "stopped")
        assert found.digest == view.digest
        assert found.best_trial == view.best.key  # type: ignore[union-attr]
        assert check(run).clean
        assert write_report(run).stat().st_size > 10_000


@pytest.mark.parametrize("name", SEARCHES)
def test_an_old_run_is_resumed_to_the_end_that_it_would_have_had(
    old: Path, tmp_path: Path, name: str
) -> None:
    run = shutil.copytree(old / f"{name}-killed", tmp_path / "run")
    whole = read(old / f"{name}-whole")
    with pytest.raises(RunError, match="version of sources"):
        resume(run, Silent(), executor=make_executor)
    outcome = resume(run, Silent(), executor=make_executor, force=True)
    assert outcome.view.final is not None
    assert len(outcome.view.complete) == len(outcome.view.trials)
    assert check(run).clean
    assert _format(run) == 2
    if same_bits(old / f"{name}-whole"):
        assert outcome.view.digest == whole.digest
    elif name != "pareto":  # whose proposals depend on scores
        assert len(outcome.view.trials) == len(whole.trials)


@pytest.mark.parametrize("name", ["climb", "evolution", "pareto"])
def test_an_old_run_is_replayed(old: Path, tmp_path: Path, name: str) -> None:
    source = shutil.copytree(old / f"{name}-whole", tmp_path / "source")
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match="version of sources"):
        replay(source, tmp_path / "again", Silent(), "", executor=make_executor)
    outcome = replay(source, tmp_path / "again", Silent(), "", force=True, executor=make_executor)
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before
    assert outline(outcome.view)[0] == outline(read(source))[0]
    if same_bits(source):
        assert outcome.view.digest == read(source).digest


def _format(run: Path) -> int:
    with sqlite3.connect(run / "ledger.db") as database:
        query = "SELECT value_json FROM study_user_attributes WHERE key = 'ledger'"
        return int(json.loads(database.execute(query).fetchone()[0])["format"])
