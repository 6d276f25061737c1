"""The search in other people's loops, against the engine's own decisions."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
import torch

import morphs
from morphs import Limits
from nas.adapters import Candidate, Climb, hill_climb
from nas.adapters.climb import complete, failed, running
from nas.adapters.optuna_sampler import HillClimbSampler
from nas.base.errors import UserError
from nas.ledger import Job, LedgerView, Store, TrialRecord
from nas.ledger.types import State
from nas.ledger.view import view_of
from nas.policies.evolution import Evolution
from nas.policies.hill_climb import HillClimb
from nas.policies.local_search import LocalSearch
from nas.policies.policy import Policy, Proposal
from nas.policies.sampling import SpaceMoves, Uniform
from nas.policies.tpe import TPE
from search_spaces import SPACES


@pytest.fixture
def climb() -> Climb:
    return hill_climb(SPACES["digits"]((1, 8, 8), 10), children=2, moves_per_child=1, seed=5, generations=2)


def score_of(candidate: Candidate) -> float:
    """Anything that depends on the candidate alone."""
    return int(hashlib.sha256(candidate.to_dict().__repr__().encode()).hexdigest()[:6], 16) / 16**6


def weights_of(candidate: Candidate) -> str:
    return hashlib.sha256(candidate.key.encode()).hexdigest()


def played(climb: Climb) -> list[Candidate]:
    """The whole search, one trial after the other."""
    records: list[TrialRecord] = []
    tried: list[Candidate] = []
    while (candidate := climb.next(view_of(records))) is not None:
        tried.append(candidate)
        records.append(complete(running(candidate, len(tried)), score_of(candidate), weights_of(candidate)))
    return tried


def test_generations_come_in_order_from_the_best_of_the_one_before(climb: Climb) -> None:
    tried = played(climb)
    assert [candidate.key for candidate in tried] == ["0.0", "1.0", "1.1", "1.2", "2.0", "2.1", "2.2"]
    assert {candidate.parent for candidate in tried[1:4]} == {"0.0"}
    best = max(tried[1:4], key=score_of)
    assert {candidate.parent for candidate in tried[4:]} == {best.key}
    assert {candidate.parent_weights for candidate in tried[4:]} == {weights_of(best)}
    assert tried == played(climb)


def test_a_generation_in_training_is_waited_for(climb: Climb) -> None:
    seed = climb.next(view_of([]))
    assert seed is not None
    begun = running(seed, 0)
    assert climb.next(view_of([begun])) is None
    assert climb.best(view_of([begun])) is None
    records = [complete(begun, 0.5, "ab" * 32)]
    while (candidate := climb.next(view_of(records))) is not None:
        records.append(running(candidate, len(records)))
    assert [record.key for record in records] == ["0.0", "1.0", "1.1", "1.2"]
    ended = [records[0], *(failed(record) for record in records[1:3]), complete(records[3], 0.1, "cd" * 32)]
    found = climb.next(view_of(ended))
    assert found is not None
    assert (found.key, found.parent) == ("2.0", "1.2")


def test_what_the_climb_decides_the_engine_decides(finished: Any) -> None:
    """Fed with what a run of the engine told, it proposes that run's own jobs."""
    trials = [record for record in finished.outcome.view.complete if record.job.kind != "final"]
    same = hill_climb(SPACES["digits"]((1, 8, 8), 10), children=2, moves_per_child=2, seed=3, generations=2)
    for count, record in enumerate(trials):
        found = same.next(view_of(trials[:count]))
        assert found is not None
        job: Job = record.job
        assert (found.key, found.moves, found.graph, found.seed) == (job.key, job.moves, job.graph, job.seed)
        assert found.parent_weights == job.training.weights
    assert same.next(view_of(trials)) is None


def test_a_candidates_network_computes_what_its_parent_did(climb: Climb, tmp_path: Path) -> None:
    store = Store(tmp_path)
    seed, *_ = played(climb)
    parent = seed.network(store)
    child = next(candidate for candidate in played(climb) if candidate.key == "1.1")
    made = Candidate(**{**child.to_dict(), "parent_weights": store.put(parent)}).network(
        store, [(torch.rand(8, 1, 8, 8), torch.arange(8))], torch.nn.functional.cross_entropy
    )
    assert made.graph.to_json() == child.graph
    assert morphs.drift(parent, made, torch.rand(4, 1, 8, 8)).eval < 1e-5


def neighbourhood() -> SpaceMoves:
    return SpaceMoves(SPACES["digits"]((1, 8, 8), 10), Limits())


def proposed(policy: Policy, seed: int, many: int) -> list[str]:
    """The moves that a policy decides on where its proposals come back to it whole, as the engine has it."""
    first = Job("seed", 0, 0, None, "", 0, 0, SPACES["digits"]((1, 8, 8), 10).seed.to_json())
    records = [complete(TrialRecord(first, State.RUNNING, None, None, 0, 0.0, None), 0.0, "0" * 64)]
    while len(records) <= many:
        p = policy.propose(view_of(records), seed)[0]
        kind = "child" if p.moves else "parent"
        job = Job(kind, p.generation, p.slot, p.parent, p.moves, 0, 0, p.graph, memo=p.memo)
        score = int(hashlib.sha256(p.graph.encode()).hexdigest()[:6], 16) / 16**6
        records.append(
            complete(TrialRecord(job, State.RUNNING, None, None, len(records), 0.0, None), score, "0" * 64)
        )
    return [record.job.moves for record in records]


def climbed(climb: Climb, many: int) -> list[str]:
    """The same by candidates, each stored as JSON in the meantime."""
    records: list[TrialRecord] = []
    while len(records) <= many:
        candidate = climb.next(view_of(records))
        assert candidate is not None
        candidate = Candidate(**json.loads(json.dumps(candidate.to_dict())))
        score = int(hashlib.sha256(candidate.graph.encode()).hexdigest()[:6], 16) / 16**6
        records.append(complete(running(candidate, len(records)), score if records else 0.0, "0" * 64))
    return [record.job.moves for record in records]


@pytest.mark.parametrize(
    "policy",
    [
        HillClimb(TPE(neighbourhood(), startup=2), 3, 1),
        LocalSearch(Uniform(neighbourhood()), Uniform(neighbourhood()), 4, 1, scatter=2, patience=2),
    ],
    ids=["tpe", "local-search"],
)
def test_what_a_policy_keeps_with_its_proposals_comes_back_to_it(policy: Policy) -> None:
    assert climbed(Climb(SPACES["digits"]((1, 8, 8), 10), policy, seed=3), 12) == proposed(policy, 3, 12)


@dataclass(frozen=True)
class Halving:
    """A policy of a user's own."""

    generational: ClassVar[bool] = True

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        return [Proposal(1, 0, "0.0", "", view.trials[0].job.graph, share=(0.0, 0.5))]

    def incumbent(self, view: LedgerView) -> TrialRecord:
        return view.trials[0]


def test_what_a_loop_of_ones_own_does_not_perform_is_refused() -> None:
    space, uniform = SPACES["digits"]((1, 8, 8), 10), Uniform(neighbourhood())
    with pytest.raises(UserError, match=r"^climb: HillClimb .*rungs=1"):
        Climb(space, HillClimb(uniform, 3, 1, rungs=2))
    with pytest.raises(UserError, match=r"^climb: Evolution .*loss.*select=\"accuracy\""):
        Climb(space, Evolution(uniform, 3, 1, select="loss"))
    with pytest.raises(UserError, match=r"^climb: TPE .*loss"):
        Climb(space, HillClimb(TPE(neighbourhood(), "loss"), 3, 1))
    climb = Climb(space, Halving())
    seed = climb.next(view_of([]))
    assert seed is not None
    with pytest.raises(UserError, match=r"^climb: Halving .*rungs"):
        climb.next(view_of([complete(running(seed, 0), 0.5, "0" * 64)]))


def told(study: optuna.Study) -> list[Candidate]:
    return [
        Candidate(**trial.user_attrs["nas:candidate"])
        for trial in study.trials
        if trial.state is optuna.trial.TrialState.COMPLETE
    ]


def objective_with(sampler: HillClimbSampler, sign: float = 1.0) -> Any:
    def objective(trial: optuna.Trial) -> float:
        candidate = sampler.candidate(trial)
        trial.set_user_attr("weights", weights_of(candidate))
        return sign * score_of(candidate)

    return objective


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_study_plays_the_same_climb_and_stops_at_its_end(climb: Climb, direction: str) -> None:
    sampler = HillClimbSampler(climb)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.optimize(objective_with(sampler, 1.0 if direction == "maximize" else -1.0), n_trials=50)
    assert told(study) == played(climb)
    assert len(study.trials) == len(told(study)) + 1  # the one that found nothing to do
    assert sampler.best(study).user_attrs["nas:candidate"]["key"].startswith("2.")


def test_a_study_goes_on_in_another_process_without_what_was_in_training(
    climb: Climb, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    first = HillClimbSampler(climb)
    study = optuna.create_study(storage=storage, study_name="x", direction="maximize", sampler=first)
    study.optimize(objective_with(first), n_trials=2)
    first.candidate(study.ask())  # its process dies
    second = HillClimbSampler(climb)
    again = optuna.load_study(storage=storage, study_name="x", sampler=second)
    again.optimize(objective_with(second), n_trials=50)
    assert told(again) == played(climb)


def test_threads_share_a_study(climb: Climb) -> None:
    sampler = HillClimbSampler(climb)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    meet = threading.Barrier(2, timeout=60)
    inner = objective_with(sampler)

    def objective(trial: optuna.Trial) -> float:
        value = float(inner(trial))
        if trial.user_attrs["nas:candidate"]["key"] in ("1.0", "1.1"):
            meet.wait()  # both are in training at once
        return value

    study.optimize(objective, n_trials=50, n_jobs=2)
    assert Counter(told(study)) == Counter(played(climb))
