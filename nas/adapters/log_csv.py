"""`--log csv`: RUN/log/trials.csv, a row for each trial that has ended, and RUN/log/steps.csv, its training losses."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.adapters.log_facts import Best, measured, parameters
from nas.adapters.loggers import LOG
from nas.config.run_config import RunConfig
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.scores import name_of

STEP = ("trial", "step", "steps", "loss")


class CsvLogger:
    """Rows are written as they come. A resumed run begins trials.csv again, from its ledger."""

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Begin the files."""
        self._folder, self._select = run / LOG, config.select
        self._folder.mkdir(exist_ok=True)
        self._best = Best(config.select)
        splits = [f"{split}_{name}" for split in ("val", "test") for name in self._scores(view)]
        self._columns = [
            *("trial", "generation", "slot", "kind", "parent", "moves", "seed", "steps", "state", "reason"),
            *("train_loss", *dict.fromkeys(splits), "params", "macs", "drift_eval", "drift_train", "seconds"),
            "best",
        ]
        self._write("trials.csv", [self._columns], "w")
        for record in view.trials:
            if not record.running:
                self.on_trial_end(record)
        if not (self._folder / "steps.csv").exists():
            self._write("steps.csv", [STEP], "w")

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Write a row of steps.csv."""
        self._write("steps.csv", [(key, step, steps, f"{loss:.6g}")])

    def on_trial_end(self, record: TrialRecord) -> None:
        """Write a row of trials.csv."""
        best = self._best.told(record)
        facts: dict[str, Any] = {
            **parameters(record), **measured(record), "state": record.state.value, "reason": record.reason or "",
            "best": None if best is None else best[1],
        }  # fmt: skip
        self._write("trials.csv", [[facts.get(name, "") for name in self._columns]])

    def _scores(self, view: LedgerView) -> list[str]:
        """The names of the scores, as far as they are known when the run starts."""
        known = {name.removeprefix("val_") for r in view.complete if r.result for name in r.result.scores}
        of_ledger = [name for name in sorted(known) if not name.startswith(("test_", "train_", "given_"))]
        return [
            *dict.fromkeys(
                (*of_ledger, *([name_of(self._select)] if self._select else []), "accuracy", "loss")
            )
        ]

    def _write(self, name: str, rows: Sequence[Sequence[Any]], mode: str = "a") -> None:
        with open(self._folder / name, mode, newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows(rows)
