"""The search as a Searcher for Ray Tune, for an experiment of your own.

    searcher = HillClimbSearcher(hill_climb(digits((1, 8, 8), 10), generations=3), metric="accuracy")
    tuner = Tuner(trainable, tune_config=TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True))

    def trainable(config):
        network = candidate_of(config).network(store)   # store: a folder that all workers share
        ...                                             # train it, score it
        report({"accuracy": accuracy, "weights": store.put(network)})

runs/examples/ray_tune_searcher.py is a complete script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from nas.adapters.climb import Candidate, Climb, candidate_from, complete, failed, running
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.view import view_of

CANDIDATE, WEIGHTS = "candidate", "weights"


class HillClimbSearcher(Searcher):
    """Suggests each trial's architecture, in config["candidate"], from the results of the experiment's other trials.

    Trials wait while the search depends on the results of running ones. Each trial reports, at its end, `metric` and
    "weights", the digest of its trained network in a `nas.ledger.Store`. Nothing is stored: an experiment that was
    killed starts over, or continues from the view in `told`. (`nas search --executor ray` has a ledger for that.)
    mode: "max" or "min".
    """

    def __init__(self, climb: Climb, metric: str, mode: str = "max", told: LedgerView | None = None) -> None:
        super().__init__(metric=metric, mode=mode)
        self.climb = climb
        self._told = list(told.trials) if told is not None else []
        self._running: dict[str, TrialRecord] = {}

    @property
    def view(self) -> LedgerView:
        """Return the experiment as the policy sees it."""
        return view_of([*self._told, *self._running.values()])

    def best(self) -> TrialRecord | None:
        """Return the best trial so far, of the last generation, which trained longest; None before one is complete."""
        return self.climb.best(self.view)

    def suggest(self, trial_id: str) -> Any:
        """Return the next candidate; None while it depends on running trials."""
        candidate = self.climb.next(self.view)
        if candidate is None:
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = running(candidate, len(self._told) + len(self._running))
        return {CANDIDATE: candidate.to_dict()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Record the result of a trial."""
        record = self._running.pop(trial_id, None)
        if record is None:
            return
        reported: Mapping[str, Any] = result or {}
        score, weights = reported.get(str(self._metric)), reported.get(WEIGHTS)
        if error or score is None or weights is None:
            self._told.append(failed(record, "the trial reported no score or no weights"))
        else:
            sign = 1.0 if self._mode == "max" else -1.0
            self._told.append(complete(record, sign * float(score), str(weights)))

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: see `told`."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see `told`."""


def candidate_of(config: Mapping[str, Any]) -> Candidate:
    """Return the candidate in a trial's configuration."""
    return candidate_from(config[CANDIDATE])
