"""`--log wandb`: one run of Weights & Biases for the search, offline in RUN/log/wandb unless WANDB_MODE says otherwise.

Send it later with: wandb sync RUN/log/wandb/offline-run-…
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from nas.adapters.log_facts import Best, measured, parameters
from nas.adapters.loggers import LOG
from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.run.events import Outcome

wandb: Any = import_module("wandb")
COLUMNS = ("trial", "generation", "kind", "parent", "moves", "steps", "state")
NUMBERS = ("val_loss", "params", "macs", "seconds")


class WandbLogger:
    """The losses of trial 3.1 are "loss/3.1", over their step in the schedule; all trials are a table at the end."""

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Begin the run."""
        (run / LOG).mkdir(exist_ok=True)
        facts = config.model_dump(mode="json", exclude={"data_root", "ledger"})
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "nas"), name=run.name, dir=str(run / LOG), config=facts,
            mode=os.environ.get("WANDB_MODE", "offline"), reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
        self._run.define_metric("schedule")
        self._run.define_metric("loss/*", step_metric="schedule")
        self._run.define_metric("ended")
        self._run.define_metric("search/*", step_metric="ended")
        self._starts: dict[str, int] = {}
        self._rows: list[list[Any]] = []
        self._best = Best(config.select)
        for record in view.trials:
            if not record.running:
                self.on_trial_end(record)

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        """Note where in the schedule each job begins."""
        self._starts |= {job.key: job.training.start for job in jobs}

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Log a loss."""
        self._run.log({f"loss/{key}": loss, "schedule": self._starts.get(key, 0) + step})

    def on_trial_end(self, record: TrialRecord) -> None:
        """Log the scores."""
        facts = {**parameters(record), "state": record.state.value}
        values = measured(record)
        self._rows.append([*(facts[name] for name in COLUMNS), *(values.get(name) for name in NUMBERS)])
        named = {f"search/{name}": value for name, value in values.items()}
        if (best := self._best.told(record)) is not None:
            named[f"search/{best[0]}"] = best[1]
        self._run.log({**named, "ended": len(self._rows)})

    def on_run_end(self, outcome: Outcome) -> None:
        """Log the table of all trials and the result, and end the run."""
        self._run.log({"trials": wandb.Table(columns=[*COLUMNS, *NUMBERS], data=self._rows)})
        self._run.summary.update({**measured(outcome.best), "best": outcome.best.key})
        self._run.finish(exit_code=1 if outcome.stopped == "interrupted" else 0)
