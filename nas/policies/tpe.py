"""Chooses the kind and size of moves by their gains: Optuna's tree-structured Parzen estimator."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from nas.base.seeds import derive
from nas.config.settings import Settings
from nas.ledger import LedgerView, TrialRecord
from nas.ledger.study import quiet
from nas.ledger.types import Criterion
from nas.policies.gain import gains
from nas.policies.sampling import Draw, Neighbourhood, random_move

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

ATTEMPTS = 10  # choices to ask for until one fits a site
CHOICES = "choices"  # the key in a job's memo for the choices of each of its moves
KIND = "kind"


class TPESettings(Settings):
    """The settings of tpe."""

    startup: int = Field(
        10, ge=0, le=10_000, description="Number of first observations that are drawn uniformly."
    )


@dataclass(frozen=True)
class TPE:
    """Asks Optuna's TPE for a kind of move and each choice in its menu, then takes a random site that fits.

    Each move of a child counts as an observation of its choices, with the child's gain over its unchanged parent.
    The first `startup` observations are drawn uniformly.
    """

    neighbourhood: Neighbourhood
    select: Criterion = "accuracy"
    startup: int = 10

    def draw(
        self,
        view: LedgerView,
        parent: TrialRecord,
        length: int,
        seed: int,
        taken: Collection[str] = frozenset(),
    ) -> Draw | None:
        """See MoveSampler."""
        with quiet(logging.WARNING):  # Optuna announces each study on stderr
            study = self._study(view, seed)
            draw = random.Random(derive(seed, "moves"))
            graph, chain, choices = parent.job.graph, list[str](), list[dict[str, Any]]()
            for _ in range(length):
                chosen, found = self._move(study, graph, draw, taken)
                if found is None:
                    break
                chain.append(found[0])
                choices.append(chosen)
                graph = found[1]
        return Draw("; ".join(chain), graph, {CHOICES: choices}) if chain else None

    def _move(
        self, study: Study, graph: str, draw: random.Random, taken: Collection[str]
    ) -> tuple[dict[str, Any], tuple[str, str] | None]:
        """The choices, and the move with its child; a uniform move if no choice fits.

        A choice that fits no site, or leads only to `taken`, is reported to this draw's study with the worst value;
        otherwise TPE would suggest it again and again. During the first, uniform draws it is not counted.
        """
        from optuna.trial import TrialState

        rejected: list[dict[str, Any]] = []
        for _ in range(ATTEMPTS):
            trial = study.ask()
            chosen = self._choose(trial)
            found = None if chosen in rejected else self._take(graph, chosen, draw, taken)
            if found is not None:
                return chosen, found
            rejected.append(chosen)
            values = [known.value for known in study.get_trials(deepcopy=False) if known.value is not None]
            if len(values) < self.startup:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, min(values))
        return {}, random_move(self.neighbourhood, graph, draw, taken)

    def _choose(self, trial: Trial) -> dict[str, Any]:
        """Choose the kind and the values of its menu, all as text, since a value may be a list."""
        labels = _labels(self.neighbourhood)
        label = str(trial.suggest_categorical(KIND, list(labels)))
        menu = self.neighbourhood.kinds[labels[label]][1]
        values = {
            name: trial.suggest_categorical(f"{label}.{name}", [str(value) for value in values])
            for name, values in menu.items()
            if len(values) > 1
        }
        return {KIND: label, **values}

    def _take(
        self, graph: str, chosen: Mapping[str, Any], draw: random.Random, taken: Collection[str]
    ) -> tuple[str, str] | None:
        kind = _labels(self.neighbourhood)[chosen[KIND]]
        menu = self.neighbourhood.kinds[kind][1]
        choice = {
            name: next(value for value in menu[name] if str(value) == chosen[name])
            for name in menu
            if name in chosen
        }
        near = self.neighbourhood.near(graph, kind, draw, choice)
        return next((step for step in near if step[1] not in taken), None)

    def _study(self, view: LedgerView, seed: int) -> Study:
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution
        from optuna.trial import create_trial

        sampler = optuna.samplers.TPESampler(
            seed=derive(seed, "tpe") % 2**32, n_startup_trials=self.startup, n_ei_candidates=24
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        gained, labels = gains(view, self.select), _labels(self.neighbourhood)
        known = {KIND: list(labels)} | {
            f"{label}.{name}": [str(value) for value in values]
            for label, kind in labels.items()
            for name, values in self.neighbourhood.kinds[kind][1].items()
        }
        for key, gain in gained.items():
            for chosen in view.trial(key).job.memo.get(CHOICES, ()):
                if chosen:
                    named = {n if n == KIND else f"{chosen[KIND]}.{n}": v for n, v in chosen.items()}
                    distributions: dict[str, BaseDistribution] = {
                        name: CategoricalDistribution(known[name]) for name in named
                    }
                    study.add_trial(create_trial(params=named, distributions=distributions, value=gain))
        return study


def _labels(neighbourhood: Neighbourhood) -> dict[str, int]:
    """A name for each kind of move; repeated kinds are numbered."""
    found: dict[str, int] = {}
    for place, (name, _) in enumerate(neighbourhood.kinds):
        found[name if name not in found else f"{name} {place}"] = place
    return found
