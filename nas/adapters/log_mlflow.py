"""`--log mlflow`: a run for the search with a nested one for each trial, in RUN/log/mlflow.db.

MLFLOW_TRACKING_URI names another place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from nas.adapters.log_facts import Best, measured, parameters
from nas.adapters.loggers import LOG
from nas.config.run_config import RunConfig
from nas.ledger import LedgerView, TrialRecord
from nas.run.events import Outcome

os.environ.setdefault(
    "MLFLOW_DISABLE_TELEMETRY", "true"
)  # read when it is imported: nothing goes out unasked
mlflow: Any = import_module("mlflow")
entities: Any = import_module("mlflow.entities")
EXPERIMENT = "nas"  # unless MLFLOW_EXPERIMENT_NAME names another
LONGEST = 500  # characters of a parameter


class MlflowLogger:
    """It uses a client of its own, and leaves the runs of the program around it alone."""

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Begin a run for the search."""
        where = os.environ.get("MLFLOW_TRACKING_URI")
        if not where:
            (run / LOG).mkdir(exist_ok=True)
            where = f"sqlite:///{(run / LOG / 'mlflow.db').absolute().as_posix()}"
        self._client: Any = mlflow.MlflowClient(tracking_uri=where)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        place = (run / LOG / "mlflow").absolute().as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(name, place)
        self._runs: dict[str, str] = {}
        self._best, self._ended = Best(config.select), 0
        self._search = self._begin(run.name, {})
        facts = config.model_dump(mode="json", exclude={"train", "data_root", "ledger"})
        self._log(
            self._search, {name: value for name, value in facts.items() if value not in (None, {}, [])}, {}
        )

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Log a loss."""
        self._log(self._of(key), {}, {"train_loss": loss}, step)

    def on_trial_end(self, record: TrialRecord) -> None:
        """Log the scores, and end the trial's run."""
        run = self._of(record.key)
        values = {f"last_{n}" if n == "train_loss" else n: value for n, value in measured(record).items()}
        self._log(run, parameters(record), values, record.steps)
        if record.reason:
            self._client.set_tag(run, "reason", record.reason[:LONGEST])
        self._client.set_terminated(run, "FINISHED" if record.result is not None else "FAILED")
        self._ended += 1
        if (best := self._best.told(record)) is not None:
            self._log(self._search, {}, {best[0].replace(" ", "_"): best[1]}, self._ended)

    def on_run_end(self, outcome: Outcome) -> None:
        """Log the result, and end the search's run."""
        self._log(self._search, {"best": outcome.best.key}, measured(outcome.best), self._ended)
        left = outcome.stopped == "interrupted"
        self._client.set_terminated(self._search, "KILLED" if left else "FINISHED")

    def _of(self, key: str) -> str:
        if key not in self._runs:
            self._runs[key] = self._begin(key, {"mlflow.parentRunId": self._search})
        return self._runs[key]

    def _begin(self, name: str, tags: Mapping[str, str]) -> str:
        made = self._client.create_run(self._experiment, tags={**tags, "mlflow.runName": name}, run_name=name)
        return str(made.info.run_id)

    def _log(self, run: str, facts: Mapping[str, Any], values: Mapping[str, float], step: int = 0) -> None:
        now = int(1000 * time.time())
        metrics = [entities.Metric(name, value, now, step) for name, value in values.items()]
        params = [entities.Param(name, str(value)[:LONGEST]) for name, value in facts.items()]
        self._client.log_batch(run, metrics=metrics, params=params)
