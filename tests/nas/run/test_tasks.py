"""Searches for other tasks than classification: they select, record, resume and replay by their own score."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from engine_support import Inline, Recorder, tiny
from optuna.study import StudyDirection
from typer.testing import CliRunner

from nas.base.errors import RunError, UserError
from nas.cli.commands import app
from nas.inspect.status import run_status
from nas.ledger import read, read_config
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import replay, resume, search

OWN = """
import nas
from torch.nn.functional import l1_loss
def near(out, y): return float(((out - y).abs() < 1).double().mean())
def loss(out, y): return l1_loss(out, y, reduction="none").mean(1)
def make(targets): return nas.Task("values", loss, (nas.Score("near", near), nas.Score("far", near, lower=True)))
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    draw = np.random.default_rng(0)
    x = draw.normal(0, 1, (160, 4))
    y = 30 * x[:, 0] + 10 * x[:, 1] + draw.normal(0, 1, 160) + 200
    rows = [",".join(f"{value:.4f}" for value in row) for row in np.column_stack([x, y])]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,d,y", *rows]))
    return f"csv:{tmp_path}/rows.csv?target=y"


def searched(run: Path, data: str, **changes: Any) -> Outcome:
    config = tiny(space="auto", data=data, epochs=4, train={"lr": 0.05, "batch_size": 16}, **changes)
    return search(config, run, Recorder(), "nas search auto", Inline)


def test_a_regression_selects_the_lowest_error(table: str, tmp_path: Path) -> None:
    outcome = searched(tmp_path / "run", table)
    view, described = read(tmp_path / "run"), read_config(tmp_path / "run").described
    assert view.notes.select == "min rmse"
    assert described.task is not None
    assert (described.task["name"], described.task["scores"][0]) == ("regression", "min rmse")
    for generation in (1, 2):
        trials = {r.key: r.result.value for r in view.generation(generation) if r.result is not None}
        parents = {r.job.parent for r in view.trials if r.job.generation == generation + 1}
        assert parents == {min(trials, key=lambda key: trials[key])}
    assert view.incumbent is not None
    assert outcome.best.result is not None
    assert {"test_rmse", "test_mae", "test_r2", "val_rmse", "val_loss"} <= outcome.best.result.scores.keys()
    assert outcome.test is not None
    assert outcome.test.values["rmse"] < 40
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/run/ledger.db")
    assert study.direction == StudyDirection.MINIMIZE
    assert study.best_value == min(r.result.value for r in view.complete if r.result is not None)
    found = run_status(tmp_path / "run")
    assert (found.score, found.best_val_accuracy) == ("min rmse", None)
    assert found.test_score == outcome.best.result.tested
    said = CliRunner().invoke(app, ["status", str(tmp_path / "run")], prog_name="nas").output
    assert "validation rmse" in said
    assert "accuracy" not in said
    report = CliRunner().invoke(app, ["report", str(tmp_path / "run")], prog_name="nas")
    assert report.exit_code == 0, report.output


def test_it_replays_bit_for_bit(table: str, tmp_path: Path) -> None:
    outcome = searched(tmp_path / "run", table, select="r2")
    assert read(tmp_path / "run").notes.select == "max r2"
    again = replay(tmp_path / "run", tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == outcome.view.digest


def test_a_score_that_the_task_lacks_is_named(table: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="regression has no score accuracy; choose one of rmse"):
        searched(tmp_path / "run", table, select="accuracy")
    assert not (tmp_path / "run").exists()


def test_a_task_of_ones_own_is_asked_for_again(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_task_of_a_run.py").write_text(OWN)
    spec = "own_task_of_a_run:make"
    outcome = searched(tmp_path / "run", table, task=spec, generations=1)
    assert outcome.view.notes.select == "max near"
    assert outcome.best.result is not None
    assert "val_far" in outcome.best.result.scores
    assert spec in read_config(tmp_path / "run").described.user_code
    with pytest.raises(RunError, match=f"--task {spec}"):
        replay(tmp_path / "run", tmp_path / "again", Silent(), "", executor=Inline)
    with pytest.raises(RunError, match="not regression"):
        replay(tmp_path / "run", tmp_path / "again", Silent(), "", executor=Inline, task="regression")
    again = replay(tmp_path / "run", tmp_path / "again", Silent(), "", executor=Inline, task=spec)
    assert again.view.digest == outcome.view.digest
    ended = resume(tmp_path / "run", Silent(), executor=Inline)  # finished: runs no code
    assert ended.view.digest == outcome.view.digest


def test_more_threads_than_cores_are_mentioned(table: str, tmp_path: Path) -> None:
    watcher = Notices()
    config = tiny(space="auto", data=table, threads=999, train={"lr": 0.05, "batch_size": 16}, generations=0)
    with pytest.raises(Stop):
        search(config, tmp_path / "run", watcher, "", Inline)
    assert any("--threads 999" in text for text in watcher.said)
    assert any("mlp" in text for text in watcher.said)


class Stop(Exception):
    """Ends a search before it trains."""


class Notices(Silent):
    """Collects notices, and stops the search before its first trial."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_notice(self, text: str) -> None:
        self.said.append(text)

    def on_run_start(self, *given: Any) -> None:
        raise Stop
