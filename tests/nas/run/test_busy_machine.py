"""A machine that becomes busy during a search: the budget is kept, and a replay comes to the same bits all the same."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, tiny

from nas.execute.executor import Done, Progressed
from nas.execute.task import attempt
from nas.inspect.fsck import check
from nas.inspect.repair import repair
from nas.ledger import Ledger, Store
from nas.run import final_training
from nas.run.engine import OVER
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import replay, resume, search

SLOW = 0.3  # seconds that a busy machine takes for itself each time that a training reports


class Busy(Inline):
    """Slows a final training down, by several times."""

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        if not self.queue[0][1].final:
            yield from super().poll(timeout)
            return
        number, job = self.queue.popleft()
        told: list[Progressed] = []

        def slow(*facts: Any) -> None:
            told.append(Progressed(number, *facts))
            time.sleep(SLOW)

        done = attempt(number, job, self.site, self.data, slow)
        yield from told
        yield done


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds that are enough however busy the machine really is."""
    began = time.monotonic()
    search(tiny(generations=2, children=3), tmp_path_factory.mktemp("first") / "run", Silent(), "", Inline)
    return 8.0 + 2 * (time.monotonic() - began)


@pytest.fixture(scope="module")
def shortened(budget: float, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A search whose final training had to become shorter, in parts of an epoch."""
    config = tiny(budget=budget, generations=1, children=1, final_share=0.9, keep="best:1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final_training, "PART_SECONDS", 0.5)
        return search(config, tmp_path_factory.mktemp("busy") / "run", Silent(), "", Busy)


def test_a_final_training_becomes_shorter_and_ends_in_time(shortened: Outcome, budget: float) -> None:
    final = shortened.view.final
    assert final is not None
    assert final.result is not None
    assert final.result.lengths
    assert 0 < final.steps < final.job.steps
    assert shortened.seconds < 1.1 * budget


def test_its_replay_comes_to_the_same_bits(shortened: Outcome, tmp_path: Path) -> None:
    again = replay(shortened.run, tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == shortened.view.digest
    stopped = replay(shortened.run, tmp_path / "stopped", Recorder(stop_after=2), "", executor=Inline)
    assert stopped.stopped == "interrupted"
    assert resume(tmp_path / "stopped", Silent(), executor=Inline).view.digest == shortened.view.digest


def test_its_network_is_made_again_by_fsck(shortened: Outcome) -> None:
    final = shortened.view.final
    assert final is not None
    assert final.result is not None
    Store(shortened.run / "checkpoints").remove(final.result.weights)
    found = check(shortened.run)
    assert not found.clean
    assert repair(shortened.run, found, (), None, lambda *_: None).clean


def test_the_rest_of_a_generation_is_not_begun_and_the_final_training_has_its_share(
    budget: float, tmp_path: Path
) -> None:
    class BusySearch(Inline):
        def poll(self, timeout: float) -> Iterator[Progressed | Done]:
            if self.queue[0][1].generation == 2:
                time.sleep(0.35 * budget)
            yield from super().poll(timeout)

    config = tiny(budget=budget, generations=4, children=3, final_share=0.4)
    outcome = search(config, tmp_path / "run", Silent(), "", BusySearch)
    failed = [record for record in outcome.view.trials if record.reason is not None]
    assert {record.reason for record in failed} == {OVER}
    assert {record.job.generation for record in failed} == {2}
    assert outcome.view.generation(2)[0].result is not None  # the first was begun
    assert outcome.stopped == "budget"
    assert outcome.view.final is not None
    assert outcome.seconds < 1.1 * budget
    with Ledger.open(tmp_path / "run") as ledger:
        assert not ledger.interrupted()
    again = replay(outcome.run, tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == outcome.view.digest
