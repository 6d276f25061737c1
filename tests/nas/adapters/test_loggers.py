"""Loggers for other tools, on a real search; what they wrote is read back by the tools' own readers."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, tiny

from nas.adapters.loggers import TOOLS, loggers
from nas.base.errors import UserError
from nas.ledger import read
from nas.run.events import Callbacks
from nas.run.lifecycle import resume, search

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[str], Path]:
    def run(tool: str) -> Path:
        callback = Callbacks(loggers([tool]))
        search(tiny(generations=1), tmp_path / "run", callback, "nas search digits", Inline)
        return tmp_path / "run"

    return run


def test_csv_holds_every_trial_and_a_resumed_run_begins_it_again(logged: Callable[[str], Path]) -> None:
    run = logged("csv")
    view = read(run)

    def rows(name: str) -> list[dict[str, str]]:
        with open(run / "log" / name, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    found = rows("trials.csv")
    assert {row["trial"] for row in found} == {record.key for record in view.trials}
    assert view.best is not None
    assert view.best.result is not None
    (last,) = (row for row in found if row["trial"] == view.best.key)
    assert float(last["val_accuracy"]) == view.best.result.scores["val_accuracy"]
    assert float(last["test_accuracy"]) == view.best.result.scores["test_accuracy"]
    assert {row["trial"] for row in rows("steps.csv")} == {record.key for record in view.trials}
    resume(run, Callbacks(loggers(["csv"])))
    assert rows("trials.csv") == found


def test_tensorboard_reads_losses_and_scores(logged: Callable[[str], Path]) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run = logged("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    view = read(run)
    for record in view.complete:
        events: Any = EventAccumulator(str(run / "log/tensorboard" / record.key)).Reload()
        assert record.result is not None
        (value,) = events.Scalars("val/accuracy")
        assert value.value == pytest.approx(record.result.scores["val_accuracy"])
        assert value.step == record.job.training.start + record.steps
        assert events.Scalars("train/loss")[-1].step == value.step
    best: Any = EventAccumulator(str(run / "log/tensorboard/search")).Reload()
    assert len(best.Scalars(best.Tags()["scalars"][0])) == len(view.trials)


def test_mlflow_holds_a_run_for_each_trial(
    logged: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = logged("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run / 'log/mlflow.db'}")
    experiment = client.get_experiment_by_name("nas")
    assert experiment is not None
    found = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    view = read(run)
    assert set(found) == {"run", *(record.key for record in view.trials)}
    for record in view.complete:
        assert record.result is not None
        logged_run = found[record.key]
        assert logged_run.info.status == "FINISHED"
        assert logged_run.data.params["kind"] == record.job.kind.value
        assert logged_run.data.metrics["val_accuracy"] == record.result.scores["val_accuracy"]
        assert client.get_metric_history(logged_run.info.run_id, "train_loss")[-1].step == record.steps


def test_wandb_works_offline(logged: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = logged("wandb")
    (folder,) = (run / "log/wandb").glob("offline-run-*")
    assert any(path.stat().st_size for path in folder.glob("*.wandb"))


def test_a_missing_library_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.adapters.loggers.find_spec", lambda name: None)
    for name, tool in TOOLS.items():
        if tool.needs:
            with pytest.raises(UserError, match=f"pip install {' '.join(tool.needs.values())}"):
                loggers([name])
    with pytest.raises(UserError, match=r"csv, tensorboard, mlflow, wandb"):
        loggers(["excel"])
    assert len(loggers(["csv", "csv"])) == 1


def test_a_logger_that_fails_does_not_end_the_search(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Blocking:
        """Puts a file where the logger wants its folder."""

        def on_run_start(self, run: Path, *_: Any) -> None:
            (run / "log").write_text("")

    run = tmp_path / "run"
    callback = Callbacks([Blocking(), *loggers(["csv"])])
    outcome = search(tiny(generations=0), run, callback, "nas search digits", Inline)
    assert outcome.test is not None
    said = capfd.readouterr().err
    assert said.count("--log csv failed") == 1
