"""--keep: what is removed, and that nothing is missed: a run decides the same with few checkpoints as with all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, tiny

from nas.base.errors import UserError
from nas.inspect.fsck import check
from nas.inspect.status import run_status
from nas.ledger import Store, TrialRecord, read
from nas.run.events import Silent
from nas.run.lifecycle import resume, search

Copy = Callable[[Path], Path]


class Counter(Recorder):
    """Counts the checkpoints whenever a trial is told."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.store, self.most = Store(run / "checkpoints"), 0

    def on_trial_end(self, record: TrialRecord) -> None:
        super().on_trial_end(record)
        self.most = max(self.most, len(self.store.digests()))


def test_few_checkpoints_decide_the_same(finished: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = search(tiny(keep="best:1"), run, counter := Counter(run), "", Inline)
    view = outcome.view
    assert view.digest == finished.outcome.view.digest
    assert view.final is not None
    assert view.best is not None
    store = Store(run / "checkpoints")
    searched = [record for record in view.complete if record.job.kind != "final"]
    best = max(searched, key=lambda record: (record.result.scores["val_accuracy"], -record.job.generation))
    kept = {record.result.weights for record in (view.final, view.best, best) if record.result}
    assert kept <= set(store.digests())
    assert len(store.digests()) <= 3
    # A generation, its parent and one that was just told, each with average, last weights and momentum; and the best.
    assert counter.most <= 3 * (3 + 1 + 1) + 1
    assert view.dropped == view.checkpoints - set(store.digests())


@pytest.mark.parametrize(
    "changes",
    [
        {"rungs": 2, "children": 3},
        {"policy": "evolution", "generations": 3},
        {"policy": "random", "generations": 3},
        {"policy": "pareto", "generations": 3},
        {"policy": "local-search", "generations": 3},
    ],
    ids=lambda changes: changes.get("policy", "rungs"),
)
def test_no_policy_misses_what_was_removed(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Nor does one that is interrupted again and again: a trial whose parent is gone would end the run."""
    config = tiny(**changes, keep="best:1")
    whole = search(config, tmp_path / "whole", Silent(), "", Inline)
    run = tmp_path / "run"
    outcome = search(config, run, Recorder(stop_after=2), "", Inline)
    while outcome.stopped == "interrupted":
        assert check(run).clean
        outcome = resume(run, Recorder(stop_after=2), executor=Inline)
    assert outcome.view.digest == whole.view.digest
    assert check(run).clean


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("place", ["before", "between", "half"])
@pytest.mark.parametrize("which", [2])
def test_dying_while_removing_is_no_damage(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, which: int
) -> None:
    run, calls = tmp_path / "run", []
    remove = Store.remove

    def dies(store: Store, digest: str) -> None:
        calls.append(digest)
        if len(calls) == which:
            if place == "half":  # renamed, and not deleted
                store.path(digest).rename(store.folder / f".tmp-{digest[:16]}-1-aa")
            elif place == "between":
                remove(store, digest)
            raise Died
        remove(store, digest)

    monkeypatch.setattr(Store, "remove", dies)
    with pytest.raises(Died):
        search(tiny(keep="best:1"), run, Silent(), "", Inline)
    monkeypatch.undo()
    assert check(run).clean
    outcome = resume(run, Silent(), executor=Inline)
    assert outcome.view.digest == finished.outcome.view.digest
    assert len(Store(run / "checkpoints").digests()) <= 3
    assert not list((run / "checkpoints").glob(".tmp-*"))


def test_what_nobody_told_is_removed_when_the_run_goes_on(
    finished: Any, interrupted: Path, copy_of: Copy
) -> None:
    run = copy_of(interrupted)
    final = finished.outcome.best.result.weights
    store = Store(run / "checkpoints")
    store.put(Store(finished.run / "checkpoints").get(finished.outcome.view.trial("2.1").result.weights))
    assert [finding.state for finding in check(run).findings] == ["unnamed"]
    outcome = resume(run, Silent(), executor=Inline)
    assert outcome.best.result is not None
    assert outcome.best.result.weights == final
    assert set(store.digests()) == outcome.view.checkpoints - outcome.view.dropped


def test_status_says_what_is_kept(tmp_path: Path, finished: Any) -> None:
    run = tmp_path / "run"
    search(tiny(keep="best:1"), run, Silent(), "", Inline)
    found, whole = run_status(run), run_status(finished.run)
    assert (found.keep, whole.keep) == ("best:1", "all")
    weights = {record.result.weights for record in read(finished.run).complete if record.result}
    assert whole.checkpoints == len(weights) == 8
    assert whole.removed == len(
        read(finished.run).checkpoints - weights
    )  # nobody continues those trainings any more
    assert found.checkpoints + found.removed == whole.checkpoints + whole.removed
    assert 0 < found.checkpoint_bytes < whole.checkpoint_bytes <= whole.disk_bytes
    assert read(run).digest == found.digest


@pytest.mark.parametrize("text", ["best", "best:0", "best:-1", "none", "best:x", ""])
def test_what_says_nothing_to_keep(text: str) -> None:
    with pytest.raises(UserError, match="write best:10"):
        tiny(keep=text)
