"""What a policy names the best is what status, report, export and --keep call so; what it remembers stays its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from engine_support import Inline, Recorder, tiny

import nas.registry.named_code
from nas.base.seeds import derive
from nas.config.run_config import RunConfig
from nas.export.trial import export_trial
from nas.inspect.status import run_status
from nas.ledger import Ledger, LedgerView, TrialRecord, read
from nas.ledger.types import Training
from nas.policies.policy import Proposal
from nas.policies.sampling import MoveSampler
from nas.report.page import write_report
from nas.report.tables import trial_rows
from nas.run.lifecycle import resume, search

MEMO = {
    "until": 5,
    "since": {"step": 1},
    "start": 3,
    "total": 4,
    "rung": 9,
    "momentum": "x",
    "parent_weights": "y",
}


@dataclass(frozen=True)
class Smallest:
    """Calls the smallest network the best, and keeps notes under the names of the engine's own plan."""

    config: RunConfig
    sampler: MoveSampler
    generational: ClassVar[bool] = False

    def incumbent(self, view: LedgerView) -> TrialRecord:
        return min(view.searched, key=lambda record: (record.result.params, record.key))

    def propose(self, view: LedgerView, seed: int) -> Sequence[Proposal]:
        born = len(view.trials) - 1
        parent = max(view.searched, key=lambda record: record.key)
        found = self.sampler.draw(view, parent, 1, derive(seed, born))
        if found is None:
            return []
        return [Proposal(1 + born // 2, born % 2, parent.key, found.moves, found.graph, MEMO)]


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(nas.registry.named_code, "resolve_named", lambda *_: Smallest)
    return "smallest:Smallest"


def agree(run: Path, policy: str) -> None:
    """Every reader of the run says what the policy says."""
    view = read(run)
    best = Smallest(None, None).incumbent(view)
    assert view.incumbent == best
    assert view.best is not None
    expected = view.final.key if view.final is not None else best.key
    assert run_status(run).best_trial == expected == view.best.key
    assert [row.key for row in trial_rows(view) if row.best] == [expected]


def test_status_report_and_export_name_the_policys_incumbent(policy: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = tiny(policy=policy, generations=2, workers=1, keep="best:1")

    class Checking(Recorder):
        def on_trial_end(self, record: TrialRecord) -> None:
            agree(run, policy)
            super().on_trial_end(record)

    search(config, run, Checking(stop_after=3), "", Inline)
    agree(run, policy)
    outcome = resume(run, Checking(), executor=Inline, policy=policy)
    agree(run, policy)
    best = Smallest(None, None).incumbent(outcome.view)
    assert outcome.view.final is not None
    assert outcome.view.final.job.parent == best.key
    with Ledger.open(run) as ledger:
        assert ledger.store.has(best.result.weights)
    assert write_report(run).is_file()
    export_trial(run, None, tmp_path / "out")


def test_a_memo_never_reaches_the_engine(policy: str, tmp_path: Path) -> None:
    outcome = search(tiny(policy=policy, generations=1, workers=1), tmp_path / "run", Recorder(), "", Inline)
    children = [record for record in outcome.view.complete if record.job.moves]
    assert children
    for record in children:
        parent = outcome.view.trial(str(record.job.parent))
        assert parent.result is not None
        begun = parent.result.last or parent.result.weights, parent.result.momentum
        start, steps = parent.job.training.start + parent.job.steps, record.job.steps
        plan = Training(*begun, start, start + steps, 0, record.job.training.batches)
        assert record.job.training == plan
        assert dict(record.job.memo) == MEMO


def test_the_digest_is_the_same_whatever_a_policy_remembers(policy: str, tmp_path: Path) -> None:
    def digest(name: str) -> Any:
        config = tiny(policy=policy, generations=1, workers=1)
        return search(config, tmp_path / name, Recorder(), "", Inline).view.digest

    first = digest("a")
    MEMO["until"] = 1
    assert digest("b") == first
