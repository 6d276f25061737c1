"""Finished runs made again: what depended on time is taken from the ledger."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, Shuffled, failing, tiny

from nas.base.errors import RunError, UserError
from nas.cli.run_commands import _compared
from nas.inspect.fsck import check
from nas.ledger import Ledger
from nas.ledger.notes import Note
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import replay, resume, search
from nas.run.replay import difference

STEADY: dict[str, Any] = {"policy": "pareto", "workers": 3, "children": 3, "moves_per_child": 1}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A search by measured latency, its trials ending in an odd order, two of them cut off."""
    config = tiny(**STEADY, objective="latency", keep="best:1")

    class Cut(Shuffled):
        def submit(self, number: int, job: Any) -> None:
            self.fail = failing(lambda job: job.key in ("1.2", "2.1"), "it took longer than 1 s")(
                Path(), config, self.data.digest
            ).fail
            super().submit(number, job)

    run = tmp_path_factory.mktemp("replay") / "front"
    return search(config, run, Silent(), "", partial(Cut, order=1))


def test_a_search_by_latency_is_made_again_by_its_own_table_and_order(front: Outcome, tmp_path: Path) -> None:
    again = replay(front.run, tmp_path / "again", Silent(), "", executor=Inline, place={"workers": 1})
    assert difference(front.view, again.view) is None
    assert again.view.digest == front.view.digest
    assert again.view.notes.latency == front.view.notes.latency
    assert again.view.trial("1.2").reason == "it took longer than 1 s"
    assert _compared(again.run, again.view, quiet=True) == 0


def test_a_replay_that_was_stopped_is_resumed_as_one(front: Outcome, tmp_path: Path) -> None:
    run = tmp_path / "again"
    stopped = replay(front.run, run, Recorder(stop_after=3), "", executor=Inline)
    assert stopped.stopped == "interrupted"
    assert resume(run, Silent(), executor=partial(Shuffled, order=5)).view.digest == front.view.digest
    assert check(run).clean


def test_a_budgets_end_is_replayed_however_long_it_takes(tmp_path: Path) -> None:
    config = tiny(budget=1e6, generations=3, final_share=0.9)
    source = search(config, tmp_path / "run", Recorder(stop_after=4), "", Inline)
    with Ledger.open(source.run) as ledger:  # as if the budget had ended it after the first generation
        ledger.note(Note.STOPPED, "budget")
        ledger.note(Note.WALL, 1e6 - 3)
    ended = resume(source.run, Silent(), executor=Inline)
    assert ended.stopped == "budget"
    again = replay(source.run, tmp_path / "again", Silent(), "", executor=Inline)
    assert (again.view.digest, again.stopped) == (ended.view.digest, "budget")


def test_what_came_to_something_else_is_named(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "again"
    bad = failing(lambda job: job.key == "1.1")
    outcome = replay(finished.run, run, Silent(), "", executor=bad)
    assert _compared(run, outcome.view, quiet=False) == 1
    said = capsys.readouterr().err
    assert said.startswith("nas: replay:")
    assert str(finished.run) in said
    assert "trial 1.1: state" in said
    assert said.count("\n") == 1


def test_only_what_is_finished_and_would_come_to_the_same_is_replayed(
    finished: Any, interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="nas resume"):
        replay(interrupted, tmp_path / "a", Silent(), "", executor=Inline)
    with pytest.raises(RunError, match="nas resume"):
        replay(finished.run, finished.run, Silent(), "", executor=Inline)
    from nas.base import machine
    from nas.run import description

    other = {**machine.machine(), "processor": "another"}
    monkeypatch.setattr(description, "machine", lambda: other)
    with pytest.raises(RunError, match=r"is another; .*--force"):
        replay(finished.run, tmp_path / "a", Silent(), "", executor=Inline)
    assert not (tmp_path / "a").exists()


def test_another_search_goes_by_the_same_table(front: Outcome, finished: Any, tmp_path: Path) -> None:
    """Of a run that measured one; where it has gone in the meantime the ledger's own copy serves."""
    there = Path(shutil.copytree(front.run, tmp_path / "there"))
    config = tiny(
        **STEADY | {"workers": 1}, objective="latency", seed=4, generations=1, latency_from=str(there)
    )
    run = tmp_path / "run"
    assert search(config, run, Recorder(stop_after=2), "", Inline).view.notes.latency == (
        front.view.notes.latency
    )
    shutil.rmtree(there)
    assert resume(run, Silent(), executor=Inline).view.final is not None
    for source, said in (
        (there, there.name),
        (finished.run, "latency: .*--objective latency"),
    ):
        other = tiny(**STEADY, objective="latency", seed=4, latency_from=str(source))
        with pytest.raises(RunError, match=said):
            search(other, tmp_path / "none", Silent(), "", Inline)
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"latency_from.*pareto"):
        tiny(latency_from=str(there))
