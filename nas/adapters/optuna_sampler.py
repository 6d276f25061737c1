"""The search as an Optuna sampler, for a study of your own.

    sampler = HillClimbSampler(hill_climb(digits((1, 8, 8), 10)))
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial):
        network = sampler.candidate(trial).network(store)
        ...                                              # train it, score it
        trial.set_user_attr("weights", store.put(network))
        return accuracy

runs/examples/optuna_sampler.py is a complete script.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.adapters.climb import Candidate, Climb, candidate_from, complete, failed, running
from nas.ledger import TrialRecord
from nas.ledger.view import view_of

CANDIDATE, WEIGHTS = "nas:candidate", "weights"
_PLACE: Mapping[str, BaseDistribution] = {
    "generation": IntDistribution(0, 2**31),
    "slot": IntDistribution(0, 2**31),
}
_WAIT_SECONDS = 0.2


class HillClimbSampler(BaseSampler):
    """Chooses each trial's architecture from the results of the study's other trials.

    A trial's place in the search is stored as the parameters `generation` and `slot`, and its candidate as the
    attribute "nas:candidate": so the study is a full record, and a script that was killed continues where it stopped.
    Your own parameters (a learning rate, say) are drawn by `others`. Threads (`n_jobs`) may share the sampler: one
    that asks while a generation is training waits until that has ended. Processes may not share a study.
    """

    def __init__(self, climb: Climb, others: BaseSampler | None = None) -> None:
        self.climb = climb
        self._others = others or RandomSampler(seed=climb.seed)
        self._lock = threading.Lock()
        self._claimed: dict[int, Candidate] = {}  # this process's, by trial number

    def candidate(self, trial: Trial) -> Candidate:
        """Return what the objective should train in `trial`. Raises TrialPruned when the search is over."""
        place = tuple(trial.suggest_int(name, 0, 2**31) for name in _PLACE)
        candidate = self._claimed.get(trial.number)
        if candidate is None or candidate.key != f"{place[0]}.{place[1]}":
            with suppress(RuntimeError):  # an ask-and-tell loop can't be stopped
                trial.study.stop()
            raise optuna.TrialPruned("the search is over: no legal move is left, or all generations are done")
        trial.set_user_attr(CANDIDATE, candidate.to_dict())
        return candidate

    def best(self, study: Study) -> FrozenTrial:
        """Return the best trial of the last generation, which trained longest; its value need not be the study's best.

        Raises ValueError before a trial is complete.
        """
        record = self.climb.best(view_of(self._records(study)))
        if record is None:
            raise ValueError("no trial has completed with a value and weights")
        return next(trial for trial in study.get_trials(deepcopy=False) if trial.number == record.number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters for the place in the search."""
        return dict(_PLACE)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Choose the next candidate, once all the trials that it depends on have ended."""
        while True:
            with self._lock:
                records = self._records(study)
                candidate = self.climb.next(view_of(records))
                if candidate is not None:
                    self._claimed[trial.number] = candidate
                    generation, _, slot = candidate.key.partition(".")
                    return {"generation": int(generation), "slot": int(slot)}
            if not any(record.running for record in records):
                return {"generation": 0, "slot": 0}  # the search is over: `candidate` raises TrialPruned
            time.sleep(_WAIT_SECONDS)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one of your own parameters."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Pass the end of the trial on to the sampler of your own parameters."""
        self._others.after_trial(study, trial, state, values)

    def _records(self, study: Study) -> list[TrialRecord]:
        """Return the study's trials as the policy sees them, without those that a dead process left running."""
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        found: list[TrialRecord] = []
        for trial in study.get_trials(deepcopy=False):
            ours = self._claimed.get(trial.number)
            if ours is None and (not trial.state.is_finished() or CANDIDATE not in trial.user_attrs):
                continue
            record = running(ours or candidate_from(trial.user_attrs[CANDIDATE]), trial.number)
            weights = trial.user_attrs.get(WEIGHTS)
            if trial.state is TrialState.COMPLETE and weights is not None and trial.value is not None:
                record = complete(record, sign * trial.value, str(weights))
            elif trial.state.is_finished():
                record = failed(record)
            found.append(record)
        return found
