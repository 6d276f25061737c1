"""What a search does when trials fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, failing, tiny

from nas.base.errors import LedgerDamaged, NasError, RunError
from nas.ledger import Store, read
from nas.run.events import Silent
from nas.run.lifecycle import replay, resume, search

Copy = Callable[[Path], Path]


def test_a_child_that_fails_fails_alone(tmp_path: Path) -> None:
    outcome = search(tiny(), tmp_path / "run", Silent(), "", failing(lambda job: job.key == "1.1"))
    assert [r.key for r in outcome.view.trials if r.state != "complete"] == ["1.1"]
    assert outcome.view.trial("1.1").reason == "it burst"
    assert outcome.view.final is not None


def test_the_parent_may_fail_too(tmp_path: Path) -> None:
    outcome = search(tiny(), tmp_path / "run", Silent(), "", failing(lambda job: job.kind == "parent"))
    assert outcome.view.trial("2.0").job.parent in ("1.1", "1.2")


def test_after_a_generation_that_failed_the_next_grows_from_the_one_before(tmp_path: Path) -> None:
    outcome = search(tiny(), tmp_path / "run", Silent(), "", failing(lambda job: job.generation == 1))
    assert {record.job.parent for record in outcome.view.generation(2)} == {"0.0"}
    first, second = ({r.job.moves for r in outcome.view.generation(g)} for g in (1, 2))
    assert first != second


def test_two_generations_that_failed_end_the_run_with_the_reason(tmp_path: Path) -> None:
    run = tmp_path / "run"
    broken = failing(lambda job: job.generation > 0)
    with pytest.raises(
        NasError, match=r"every competitor of 2 generations failed, the last with: it burst; .*resume"
    ):
        search(tiny(generations=9), run, Silent(), "", broken)
    assert len(read(run).trials) == 7


def test_a_seed_that_fails_ends_the_run_and_is_tried_once_more_by_the_next(tmp_path: Path) -> None:
    run, broken = tmp_path / "run", failing(lambda job: job.kind == "seed")
    said = r"it burst; .*nas resume"
    with pytest.raises(NasError, match=said):
        search(tiny(), run, Silent(), "", broken)
    with pytest.raises(NasError, match=said):
        resume(run, Silent(), executor=broken)
    outcome = resume(run, Silent(), executor=Inline)
    seeds = [record for record in outcome.view.trials if record.job.kind == "seed"]
    assert [(record.key, record.state) for record in seeds] == [
        ("0.0", "failed"), ("0.1", "failed"), ("0.2", "complete"),
    ]  # fmt: skip
    assert outcome.view.final is not None
    assert replay(run, tmp_path / "again", Silent(), "", executor=Inline).view.digest == outcome.view.digest


def test_a_fault_outside_the_candidate_stops_the_run_and_is_not_recorded(
    finished: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(RunError, match=r"the disk is full; free space .*nas resume"):
        search(
            tiny(),
            run,
            Silent(),
            "",
            failing(lambda job: job.key == "1.2", "the disk is full; free space", True),
        )
    assert read(run).trial("1.2").state == "running"
    assert resume(run, Silent(), executor=Inline).view.digest == finished.outcome.view.digest


def test_a_damaged_parent_stops_the_run_until_it_is_restored(
    finished: Any, interrupted: Path, copy_of: Copy
) -> None:
    run = copy_of(interrupted)
    parent = read(run).trial("0.0").result
    assert parent is not None
    path = Store(run / "checkpoints").path(parent.weights) / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises((LedgerDamaged, RunError), match=r"weights\.safetensors"):
        resume(run, Silent(), executor=Inline)
    path.write_bytes(whole)
    assert resume(run, Silent(), executor=Inline).view.digest == finished.outcome.view.digest


def test_a_final_training_that_failed_is_tried_anew_on_resuming(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(NasError, match=r"it burst; .*nas resume"):
        search(tiny(generations=1), run, Silent(), "", failing(lambda job: job.kind == "final"))
    outcome = resume(run, Silent(), executor=Inline)
    assert outcome.best.key == "2.1"
    assert outcome.view.trial("2.0").state == "failed"
    assert outcome.test is not None
