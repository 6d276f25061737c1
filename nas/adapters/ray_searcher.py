"""The search as a Searcher for Ray Tune, for experiments of one's own.

    searcher = HillClimbSearcher(hill_climb(digits((1, 8, 8), 10), generations=3), metric="accuracy")
    tuner = Tuner(trainable, tune_config=TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True))

    def trainable(config):
        network = candidate_of(config).network(store)   # store: a folder that all workers share
        ...                                             # train it, score it
        report({"accuracy": accuracy, "weights": store.put(network)})

runs/examples/ray_tune_searcher.py is a whole script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from nas.adapters.climb import Candidate, Climb, candidate_from, complete, failed, running, view
from nas.ledger import LedgerView, TrialRecord

CANDIDATE, WEIGHTS = "candidate", "weights"


class HillClimbSearcher(Searcher):
    """Suggests each trial's architecture under config["candidate"], given what came of the experiment's others.

    Trials wait where the search must know how those in training end. Each trial reports, at its end, `metric` and
    "weights", the digest under which its trained network lies in a `nas.ledger.Store`. Nothing is kept: an
    experiment that was killed begins anew, or `told` is given what is known of it. (`nas search --executor ray`
    has a ledger for that.) mode: "max" or "min".
    """

    def __init__(self, climb: Climb, metric: str, mode: str = "max", told: LedgerView | None = None) -> None:
        super().__init__(metric=metric, mode=mode)
        self.climb = climb
        self._told = list(told.trials) if told is not None else []
        self._running: dict[str, TrialRecord] = {}

    @property
    def view(self) -> LedgerView:
        """The experiment as the policy sees it."""
        return view([*self._told, *self._running.values()])

    def best(self) -> TrialRecord | None:
        """The search's best trial so far: of the last generation, which trained longest."""
        return self.climb.best(self.view)

    def suggest(self, trial_id: str) -> Any:
        """The next candidate; None while that depends on trials in training."""
        candidate = self.climb.next(self.view)
        if candidate is None:
            return None if self._running else Searcher.FINISHED
        self._running[trial_id] = running(candidate, len(self._told) + len(self._running))
        return {CANDIDATE: candidate.to_dict()}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Take in what came of a trial."""
        record = self._running.pop(trial_id, None)
        if record is None:
            return
        said: Mapping[str, Any] = result or {}
        score, weights = said.get(str(self._metric)), said.get(WEIGHTS)
        if error or score is None or weights is None:
            self._told.append(failed(record, "it reported no score or no weights"))
        else:
            sign = 1.0 if self._mode == "max" else -1.0
            self._told.append(complete(record, sign * float(score), str(weights)))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see `told`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `told`."""


def candidate_of(config: Mapping[str, Any]) -> Candidate:
    """The candidate in a trial's configuration."""
    return candidate_from(config[CANDIDATE])
