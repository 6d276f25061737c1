"""The callbacks of a run, for progress views and for users."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.types import Stopped
from nas.train.evaluate import Scores


@dataclass(frozen=True)
class Outcome:
    """How a run ended or was interrupted.

    best: the final network's trial; the incumbent while there is none. test: the final network's scores on the
    test split. seconds: wall time across resumes, from reading the data to the end. overhead: the share of it
    in which no trial was training or being evaluated (trials without a result are ignored).
    stopped: why the search ended; "interrupted" when the run isn't finished.
    """

    run: Path
    view: LedgerView
    best: TrialRecord
    test: Scores | None
    seconds: float
    overhead: float
    stopped: Stopped


class Callback(Protocol):
    """Methods that a run calls, in the driver's process and thread; each must be quick.

    A user's object may have any subset of these methods (`Callbacks`). An exception from one ends the run, which can
    be resumed, and reaches the caller; KeyboardInterrupt stops the run as Ctrl-C does.
    """

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """The ledger is open; no trial has been started yet."""

    def on_notice(self, text: str) -> None:
        """Something that the user should know before the run starts, in a sentence."""

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        """These trials are about to be trained; the final training is one job of kind FINAL.

        Called again with the same generation for jobs that join it later.
        """

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        """The trial `key` has trained `step` of `steps`; called a few times a second at most."""

    def on_trial_end(self, record: TrialRecord) -> None:
        """A trial's result, or the reason of its failure, is durable."""

    def on_generation_end(self, generation: int, best: TrialRecord) -> None:
        """All competitors of the generation have ended, or the next one begins; `best` is the best so far."""

    def on_run_end(self, outcome: Outcome) -> None:
        """The run is over. Not called when an error ends it."""


class Silent(Callback):
    """A callback that does nothing."""


class Callbacks(Callback):
    """Combines objects that have some of a `Callback`'s methods into one callback; calls them in the order given.

    Raises UserError for an object that has none of the methods, since it would never be called.
    """

    def __init__(self, callbacks: Iterable[object]) -> None:
        self._callbacks = tuple(callbacks)
        for callback in self._callbacks:
            if not any(callable(getattr(callback, name, None)) for name in EVENTS):
                fact = f"callbacks: a {type(callback).__name__} has none of the methods of a callback"
                raise UserError(f"{fact}; give it one of {', '.join(EVENTS)}")
        for name in EVENTS:  # in place of the methods that do nothing
            setattr(self, name, partial(self._call, name))

    def _call(self, name: str, *facts: Any) -> None:
        for callback in self._callbacks:
            method = getattr(callback, name, None)
            if method is not None:
                method(*facts)


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))
