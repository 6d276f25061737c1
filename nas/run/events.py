"""What a run tells whoever watches it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.types import Stopped
from nas.train.evaluate import Scores


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or was left.

    best: the final network's trial; until there is one the incumbent. test: the final network's scores on the
    test split. seconds: wall time across resumes, from reading the data to the end. overhead: the share of it
    in which no trial was inside training or evaluation (trials without a result count as if they had not been).
    stopped: why the search ended; "interrupted" when the run isn't finished.
    """

    run: Path
    view: LedgerView
    best: TrialRecord
    test: Scores | None
    seconds: float
    overhead: float
    stopped: Stopped


class Watcher(Protocol):
    """Called in the driver's process; every method must be cheap."""

    def run_opened(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """The ledger is open; nothing has been started yet."""
        ...

    def generation_started(self, generation: int, jobs: Sequence[Job]) -> None:
        """These trials are about to be trained; the final training is one job of kind FINAL.

        Called again with the same generation for those that join it later.
        """
        ...

    def progress(self, key: str, step: int, steps: int, loss: float) -> None:
        """The competitor `key` has trained `step` of `steps`."""
        ...

    def trial_told(self, record: TrialRecord) -> None:
        """A trial's result is durable."""
        ...

    def generation_ended(self, generation: int, best: TrialRecord) -> None:
        """All competitors of the generation are told, or the next one begins; `best` is the best so far."""
        ...

    def run_finished(self, outcome: Outcome) -> None:
        """Nothing more will happen."""
        ...


class Silent:
    """A watcher that says nothing."""

    def run_opened(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """Nothing."""

    def generation_started(self, generation: int, jobs: Sequence[Job]) -> None:
        """Nothing."""

    def progress(self, key: str, step: int, steps: int, loss: float) -> None:
        """Nothing."""

    def trial_told(self, record: TrialRecord) -> None:
        """Nothing."""

    def generation_ended(self, generation: int, best: TrialRecord) -> None:
        """Nothing."""

    def run_finished(self, outcome: Outcome) -> None:
        """Nothing."""
