"""Whole runs in this process: what is decided, what interruption does, what is refused."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_support import TINY, Given, Inline, Recorder, decisions, tiny

from nas.base.errors import DataError, NasError, RunError, UserError
from nas.inspect.fsck import check
from nas.ledger import Ledger, read, read_config
from nas.ledger.types import State
from nas.run.events import Silent
from nas.run.folders import default_run_folder
from nas.run.lifecycle import resume, search

Copy = Callable[[Path], Path]


def content(run: Path) -> dict[str, bytes]:
    """All files of a run but the lock, whose content is its holder."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def no_executor(*_: Any) -> Any:
    raise AssertionError("nothing was to be performed")


def test_a_run_from_seed_to_final_network(finished: Any) -> None:
    outcome, view = finished.outcome, read(finished.run)
    kinds = [record.job.kind for record in view.trials]
    assert kinds == ["seed", "parent", "child", "child", "parent", "child", "child", "final"]
    assert all(record.state == "complete" for record in view.trials)
    assert outcome.stopped == "generations"
    assert outcome.best == view.final
    assert outcome.test is not None
    assert outcome.test.accuracy == outcome.best.result.scores["test_accuracy"]
    assert outcome.view == view
    assert 0 <= outcome.overhead <= 1
    assert outcome.seconds == view.notes.wall


def test_only_the_final_trial_has_test_scores(finished: Any) -> None:
    for record in finished.outcome.view.trials:
        assert ("test_accuracy" in record.result.scores) == (record.job.kind == "final")


def test_children_name_their_parent_and_inherit_its_weights(finished: Any) -> None:
    view = finished.outcome.view
    for record in view.trials[1:]:
        parent = view.trial(record.job.parent)
        assert parent.job.generation < record.job.generation
        assert record.job.training.weights == (parent.result.last or parent.result.weights)
    assert all(record.result.drift_eval < 1e-4 for record in view.trials if record.job.moves)
    assert view.trial("1.0").result.drift_eval is None


def test_the_watcher_hears_all_of_it_in_order(finished: Any) -> None:
    events = [event for event in finished.watcher.events if event[0] != "progress"]
    assert events[0] == ("opened", False, 0)
    assert events[1:4] == [("started", 0, ["0.0"]), ("told", "0.0"), ("ended", 0, "0.0")]
    assert events[4] == ("started", 1, ["1.0", "1.1", "1.2"])
    assert [event[1] for event in events if event[0] == "ended"] == [0, 1, 2]
    assert events[-3:] == [("started", 3, ["3.0"]), ("told", "3.0"), ("finished", "generations")]
    progress = {event[1] for event in finished.watcher.events if event[0] == "progress"}
    assert progress == set(finished.watcher.told)


def test_resuming_an_interrupted_run_ends_as_the_whole_run(
    finished: Any, interrupted: Path, copy_of: Copy
) -> None:
    run, watcher = copy_of(interrupted), Recorder()
    assert len(read(run).complete) == 2
    outcome = resume(run, watcher, executor=Inline)
    assert outcome.view.digest == finished.outcome.view.digest
    assert watcher.events[:2] == [("opened", True, 2), ("started", 1, ["1.1", "1.2"])]
    assert outcome.seconds > read(interrupted).notes.wall


@pytest.mark.parametrize("trials", [1, 4, 7])
def test_interruption_anywhere_changes_nothing(finished: Any, tmp_path: Path, trials: int) -> None:
    run = tmp_path / "run"
    assert search(tiny(), run, Recorder(stop_after=trials), "", Inline).stopped == "interrupted"
    assert resume(run, Silent(), executor=Inline).view.digest == finished.outcome.view.digest


def test_ctrl_c_before_the_first_trial_ended(finished: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(NasError, match=r"nas resume") as caught:
        search(tiny(), run, Recorder(stop_after=0), "", Inline)
    assert not isinstance(caught.value, UserError)
    assert resume(run, Silent(), executor=Inline).view.digest == finished.outcome.view.digest


def test_resuming_a_finished_run_says_its_end_again_and_changes_nothing(finished: Any, copy_of: Copy) -> None:
    run, watcher = copy_of(finished.run), Recorder()
    before = content(run)
    again = resume(run, watcher, executor=no_executor)
    assert watcher.events == [("opened", True, 8), ("finished", "generations")]
    assert (again.best, again.test, again.seconds) == (
        finished.outcome.best,
        finished.outcome.test,
        finished.outcome.seconds,
    )
    assert again.view == finished.outcome.view
    assert content(run) == before


def test_a_run_in_use_is_left_alone(interrupted: Path, copy_of: Copy) -> None:
    run = copy_of(interrupted)
    with Ledger.open(run), pytest.raises(RunError, match="in use by process"):
        resume(run, Silent(), executor=no_executor)


def test_search_in_a_folder_that_is_taken(finished: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nas resume"):
        search(tiny(), finished.run, Silent(), "", no_executor)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds other files \(notes.txt\)"):
        search(tiny(), tmp_path, Silent(), "", no_executor)
    with pytest.raises(RunError, match=r"search: .*notes\.txt"):
        search(tiny(), tmp_path / "notes.txt", Silent(), "", no_executor)


def test_search_takes_a_folder_whose_driver_died_making_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "lock").touch()
    (tmp_path / ".tmp-ledger.db-1-2").touch()
    with pytest.raises(NasError, match="stopped before the first trial"):
        search(tiny(), tmp_path, Recorder(stop_after=0), "", Inline)
    assert read(tmp_path).trials == ()


def edit(run: Path, **changes: str) -> None:
    """Pretend that the run was made with other versions."""
    path = run / "config.json"
    document = json.loads(path.read_text())
    document["versions"] |= changes
    path.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))


def test_changed_versions_are_refused_unless_forced(finished: Any, interrupted: Path, copy_of: Copy) -> None:
    run = copy_of(interrupted)
    edit(run, torch="1.0", numpy="0.1")
    before = content(run)
    with pytest.raises(
        RunError, match=r"version of torch was 1\.0 and is .*version of numpy was 0\.1.*--force"
    ):
        resume(run, Silent(), executor=no_executor)
    assert content(run) == before
    assert resume(run, Recorder(stop_after=1), force=True, executor=Inline).stopped == "interrupted"
    (changes,) = read(run).notes.forced
    assert len(changes) == 2
    assert "version of torch was 1.0" in changes[0]
    outcome = resume(run, Silent(), executor=Inline)  # forced once, these changes are known
    assert outcome.view.digest == finished.outcome.view.digest
    assert outcome.view.notes.forced == (tuple(changes),)


def test_a_changed_configuration_is_refused_with_the_difference_unless_forced(
    interrupted: Path, copy_of: Copy
) -> None:
    run = copy_of(interrupted)
    document = json.loads((run / "config.json").read_text())
    document["config"]["config"]["epochs"] = 0.2
    document["config"]["config"]["train"]["lr"] = 0.01
    (run / "config.json").write_text(json.dumps(document))
    changes = ["epochs was 0.1 and is 0.2", "train.lr was 0.05 and is 0.01"]
    with pytest.raises(RunError, match=rf"{changes[0]}; {changes[1]}; results would not be .* --force"):
        resume(run, Silent(), executor=no_executor)
    assert any(changes[0] in finding.fact for finding in check(run).findings)
    assert resume(run, Recorder(stop_after=1), force=True, executor=Inline).stopped == "interrupted"
    assert read(run).notes.forced == (tuple(changes),)
    assert check(run).clean
    assert resume(run, Silent(), executor=Inline).stopped == "generations"


@pytest.fixture
def own_data() -> Any:
    """`given`, as it is before and after any test."""
    Given.seed = Given.calls = 0
    yield Given
    Given.seed = Given.calls = 0


OWN = "engine_support:given"


@pytest.fixture
def own_run(tmp_path: Path, own_data: Any) -> Path:
    config = tiny(data=OWN, generations=1, val_fraction=0.2, train={"batch_size": 16})
    search(config, tmp_path / "own", Recorder(stop_after=1), "", Inline)
    return tmp_path / "own"


def test_code_named_by_a_file_of_the_run_is_never_run(own_run: Path, own_data: Any) -> None:
    own_data.calls = 0
    with pytest.raises(RunError, match=rf"is code, {OWN}, .* nas resume \S+ --data {OWN}"):
        resume(own_run, Silent(), force=True, executor=no_executor)
    with pytest.raises(RunError, match=rf"searches on {OWN}, not on digits"):
        resume(own_run, Silent(), data="digits", executor=no_executor)
    assert own_data.calls == 0
    assert resume(own_run, Silent(), data=OWN, executor=Inline).test is not None


def test_changed_data_are_refused_unless_forced(own_run: Path, own_data: Any) -> None:
    own_data.seed = 1
    with pytest.raises(RunError, match="content of the data set was"):
        resume(own_run, Silent(), data=OWN, executor=no_executor)
    assert resume(own_run, Silent(), force=True, data=OWN, executor=Inline).stopped == "generations"
    assert "content of the data set" in read(own_run).notes.forced[0][0]


def test_a_folder_that_no_search_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder"):
        resume(tmp_path / "none", Silent())
    Ledger.create(tmp_path / "other", {"space": "digits"}).close()
    with pytest.raises(RunError, match="was not made by a search"):
        resume(tmp_path / "other", Silent())
    Ledger.create(tmp_path / "newer", {"config": dict(TINY, warp=9), "data": {}}).close()
    with pytest.raises(RunError, match=r'newer: configuration: there is no setting "warp".*use the version'):
        resume(tmp_path / "newer", Silent())


def test_wrong_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"a budget of 0 s .*: raise --budget"):
        search(tiny(budget=0.001, epochs=20), run, Silent(), "", no_executor)
    with pytest.raises(
        UserError, match=r'seed network of space "digits": params would be .* raise that limit'
    ):
        search(tiny(limits={"params": 10}), run, Silent(), "", no_executor)
    with pytest.raises(DataError, match="unknown data set"):
        search(tiny(data="digitz"), run, Silent(), "", no_executor)
    assert not run.exists()


@pytest.mark.parametrize("final", ["continue", "restart"])
def test_without_a_final_share_the_best_network_is_tested_as_it_is(tmp_path: Path, final: str) -> None:
    outcome = search(tiny(generations=1, final_share=0, final=final), tmp_path / "run", Silent(), "", Inline)
    last = outcome.best
    assert last.job.steps == 0
    assert last.result is not None
    assert last.job.parent is not None
    before = outcome.view.trial(last.job.parent).result
    assert before is not None
    assert last.result.weights == before.weights
    assert outcome.test is not None


def test_a_budget_decides_a_prefix_in_whole_generations(tmp_path: Path) -> None:
    free = tiny(generations=None, budget=4, epochs=0.3, policy_settings={"parent": True})
    short = search(free, tmp_path / "short", Silent(), "", Inline)
    assert short.stopped == "budget"
    reached = max(record.job.generation for record in short.view.trials if record.job.kind != "final")
    assert short.view.final is not None
    limits = read_config(short.run).config["config"]["limits"]  # what was picked for the budget
    wanted = tiny(generations=reached + 1, epochs=0.3, final_share=0, limits=limits)
    whole = search(wanted, tmp_path / "whole", Silent(), "", Inline)
    # On a busy machine the budget may end within a generation, whose last trials then fail; what follows differs.
    missed = [record.job.generation for record in short.view.trials if record.state is State.FAILED]
    made = [each for each in decisions(short.view) if each["generation"] < min(missed, default=reached + 1)]
    assert decisions(whole.view)[: len(made)] == made
    assert len(short.view.generation(reached)) == (3 if reached else 1)


def test_a_budget_that_isnt_used_up_gives_the_final_training_its_share_only(
    tmp_path: Path,
) -> None:
    """Where each trial has its own schedule; a lineage, whose schedule ends with the budget, uses it all."""
    outcome = search(tiny(budget=600, schedule="restarts"), tmp_path / "run", Silent(), "", Inline)
    assert outcome.stopped == "generations"
    free = search(tiny(schedule="restarts"), tmp_path / "free", Silent(), "", Inline)
    assert outcome.view.digest == free.view.digest


def test_a_lineage_uses_its_budget(tmp_path: Path) -> None:
    outcome = search(tiny(budget=12, epochs=4), tmp_path / "run", Silent(), "", Inline)
    assert 12 / 2 < outcome.seconds < 12 * 1.5  # a loaded machine measures its own speed wrongly


def test_resumed_between_a_budget_stop_and_the_final_training(tmp_path: Path) -> None:
    run = tmp_path / "run"

    class Stop(Recorder):
        def on_generation_start(self, generation: int, jobs: Any) -> None:
            if jobs[0].kind == "final":
                raise KeyboardInterrupt

    config = tiny(generations=None, budget=3)
    assert search(config, run, Stop(), "", Inline).stopped == "interrupted"
    before = decisions(read(run))
    time.sleep(0.1)
    outcome = resume(run, Silent(), executor=Inline)
    assert outcome.stopped == "budget"
    assert decisions(outcome.view) == before
    assert outcome.view.final is not None


def test_wall_time_is_counted_across_resumes(interrupted: Path, copy_of: Copy) -> None:
    run = copy_of(interrupted)
    walls = [read(run).notes.wall]
    for _ in range(2):
        resume(run, Recorder(stop_after=1), executor=Inline)
        walls.append(read(run).notes.wall)
    assert walls == sorted(set(walls))


def test_the_default_folder_is_the_first_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_run_folder(tiny()) == Path("runs/digits-digits-001")
    Path("runs/digits-digits-001").mkdir(parents=True)
    assert default_run_folder(tiny()) == Path("runs/digits-digits-002")
    assert default_run_folder(tiny(data="imagefolder:/a/b")).name == "digits-imagefolder--a-b-001"
