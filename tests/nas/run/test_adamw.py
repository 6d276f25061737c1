"""Searches that train with AdamW: its state through moves, pauses, interruptions and repairs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, tiny

from nas.inspect.fsck import check
from nas.inspect.repair import repair
from nas.ledger import Store
from nas.run import final_training
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import replay, resume, search

ADAMW = {"optimizer": "adamw", "lr": 0.003, "batch_size": 64, "average": 0.5}


def config(**changes: Any) -> Any:
    return tiny(**{"generations": 1, "final_share": 0.9, "train": ADAMW, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The run in one go: tests compare with it."""
    return search(config(), tmp_path_factory.mktemp("adamw") / "run", Silent(), "", Inline)


def test_a_child_continues_the_moments_of_its_parent(whole: Outcome) -> None:
    seed, child = whole.view.trial("0.0"), whole.view.trial("1.1")
    assert seed.result is not None
    assert child.job.moves
    assert (child.job.training.momentum, child.job.training.rest) == (seed.result.momentum, seed.result.rest)
    assert len(seed.result.rest) == 2
    final = whole.view.final
    assert final is not None
    assert len(final.job.training.rest) == 2
    assert check(whole.run).clean


class Cut(Inline):
    """Ctrl-C comes before the second part of the final training."""

    parts = 0

    def submit(self, number: int, job: Any) -> None:
        self.parts += job.final
        super().submit(number, job)

    def poll(self, timeout: float) -> Any:
        if self.parts == 2:
            raise KeyboardInterrupt
        return super().poll(timeout)


def test_interruptions_change_no_bit(whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final_training, "PART_SECONDS", 0.0)
    run = tmp_path / "run"
    assert search(config(), run, Recorder(stop_after=2), "", Inline).stopped == "interrupted"
    assert resume(run, Silent(), executor=Cut).stopped == "interrupted"
    assert resume(run, Silent(), executor=Inline).view.digest == whole.view.digest
    assert replay(run, tmp_path / "again", Silent(), "", executor=Inline).view.digest == whole.view.digest


def test_its_state_is_made_again_where_it_was_lost(tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped = search(config(), run, Recorder(stop_after=1), "", Inline)
    result = stopped.view.trial("0.0").result
    assert result is not None
    store = Store(run / "checkpoints")
    counts = store.get(result.rest[1])
    trainable = [key for key, param in counts.graph.params.items() if param.trainable]
    assert {float(counts.weights[key].max()) for key in trainable} == {float(stopped.view.trial("0.0").steps)}
    shutil.rmtree(store.path(result.rest[0]))
    assert [finding.what for finding in check(run).findings if finding.damage] == ["momentum"]
    assert repair(run, check(run), (), None, lambda done, total: None).clean
    assert store.get(result.rest[0]).graph == counts.graph
