"""`--log tensorboard`: an event file for each trial and one for the search, under RUN/log/tensorboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from nas.adapters.log_facts import Best, measured, parameters
from nas.adapters.loggers import LOG
from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.run.events import Outcome


class TensorBoardLogger:
    """A trial's losses stand at their step in the schedule, so that a child goes on where its parent stopped; its
    scores and hyperparameters (kind, parent, moves, size) stand at its end.
    """

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Open the search's own file."""
        self._folder, self._best = run / LOG / "tensorboard", Best(config.select)
        self._trials: dict[str, tuple[SummaryWriter, int]] = {}
        self._ended = 0
        self._search = self._writer("search")
        for record in view.trials:
            if not record.running:
                self._tell(record)

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        """Note where in the schedule each job begins."""
        for job in jobs:
            self._open(job)

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """Write a loss."""
        if key in self._trials:
            writer, start = self._trials[key]
            writer.add_scalar("train/loss", loss, start + step)

    def on_trial_end(self, record: TrialRecord) -> None:
        """Write the scores, and close the trial's file."""
        writer, start = self._open(record.job)
        values = measured(record)
        for name, value in values.items():
            split, _, score = name.partition("_")
            known = split in ("val", "test", "train", "given")
            tag = f"{split}/{score}" if known else f"trial/{name}"
            writer.add_scalar(tag if tag != "train/loss" else "train/last loss", value, start + record.steps)
        facts = {name: value for name, value in parameters(record).items() if name not in ("slot", "seed")}
        if values:
            writer.add_hparams(
                facts, {f"hparam/{name}": value for name, value in values.items()}, run_name="."
            )
        else:
            writer.add_text("failed", record.reason or "no reason is known")
        writer.close()
        self._trials.pop(record.key, None)
        self._tell(record)

    def on_run_end(self, outcome: Outcome) -> None:
        """Close all files."""
        for writer, _ in self._trials.values():
            writer.close()
        self._search.close()

    def _tell(self, record: TrialRecord) -> None:
        self._ended += 1
        if (best := self._best.told(record)) is not None:
            self._search.add_scalar(f"search/{best[0]}", best[1], self._ended)

    def _open(self, job: Job) -> tuple[SummaryWriter, int]:
        if job.key not in self._trials:
            self._trials[job.key] = self._writer(job.key), job.training.start
        return self._trials[job.key]

    def _writer(self, name: str) -> SummaryWriter:
        return SummaryWriter(str(self._folder / name), flush_secs=10)
