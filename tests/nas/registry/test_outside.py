"""A move, a space, a policy, an objective and a data set of a user's own, named on a command line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_support import TINY, Inline, Recorder
from registry_support import outside

import nas
from nas.base.errors import RunError, UserError
from nas.inspect.fsck import check
from nas.inspect.repair import repair
from nas.ledger import read, read_config
from nas.registry.configure import configure
from nas.registry.defaults import REGISTRY
from nas.run.events import Silent
from nas.run.lifecycle import replay, resume, search

OWN: dict[str, Any] = {
    **{name: value for name, value in TINY.items() if name != "space"},
    "data": "outside:data", "policy": "outside:Patient", "generations": 1, "val_fraction": 0.2, "epochs": 1.0,
    "seed": 4, "train": {"batch_size": 16},
}  # fmt: skip
NAMED: dict[str, Any] = {"space": "outside:space", "policy": "outside:Patient", "data": "outside:data"}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with outside(tmp_path, monkeypatch) as path:
        yield path


def command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(nas.__file__ or "").parents[1])
    return subprocess.run(
        [sys.executable, "-c", "from nas.cli.commands import main; main()", *args],
        cwd=folder, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_a_search_of_ones_own_from_the_command_line_to_its_replay(module: Path, tmp_path: Path) -> None:
    """Stopped by hand, gone on with in worker processes, made again in those of Ray."""
    config, registry = configure("outside:space", OWN)
    run = tmp_path / "run"
    assert search(config, run, Recorder(stop_after=2), "", Inline, registry).stopped == "interrupted"
    assert set(read_config(run).config["user_code"]) == {
        "outside:space",
        "outside:Patient",
        "outside:Twice",
    }

    refused = command(tmp_path, "resume", "run")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    options = ["--space", "outside:space", "--policy", "outside:Patient", "--data", "outside:data"]
    assert f"nas resume run {' '.join(options)}" in refused.stderr
    done = command(tmp_path, "resume", "run", *options, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    view = read(run)
    assert view.final is not None
    assert not [record.reason for record in view.trials if record.state == "failed"]
    assert any("twice(" in record.job.moves for record in view.trials)

    ray = ["--executor", "ray", "--workers", "1"]
    again = command(tmp_path, "replay", "run", *options, *ray, "--quiet", "--run", "again")
    assert (again.returncode, again.stderr) == (0, "")
    assert read(tmp_path / "again").digest == view.digest

    whole = ["search", "outside:space", *options[2:], "--generations", "1", "--epochs", "0.1", "--run", "new"]
    found = command(tmp_path, *whole, "--quiet", "--set", "train.batch_size=16", "--val-fraction", "0.2")
    assert (found.returncode, found.stderr) == (0, "")


def test_code_that_is_not_named_again_or_is_named_otherwise_is_refused(module: Path, tmp_path: Path) -> None:
    config, registry = configure("outside:space", OWN)
    run = tmp_path / "run"
    search(config, run, Recorder(stop_after=1), "", Inline, registry)
    for given, fact in {
        (): r"the search space of .* is code, outside:space, .*--space outside:space --policy outside:Patient",
        ("space",): r"the policy of .* is code, outside:Patient",
        ("space", "policy"): r"the data of .* is code, outside:data",
    }.items():
        with pytest.raises(RunError, match=fact):
            resume(run, Silent(), executor=Inline, **{name: NAMED[name] for name in given})
    with pytest.raises(RunError, match=r"the search space of .* is outside:space, not digits"):
        resume(run, Silent(), executor=Inline, **NAMED | {"space": "digits"})
    with pytest.raises(RunError, match=r"the move of .* is none, not outside:Twice"):
        resume(run, Silent(), executor=Inline, **NAMED, moves=["outside:Twice"])


def test_other_source_is_refused_unless_forced(module: Path, tmp_path: Path) -> None:
    config, registry = configure("outside:space", OWN)
    run = tmp_path / "run"
    search(config, run, Recorder(stop_after=1), "", Inline, registry)
    module.write_text(module.read_text() + "# another line\n")
    with pytest.raises(RunError, match=r"source of outside:space was \w{12} and is \w{12}.*--force"):
        resume(run, Silent(), executor=Inline, **NAMED)
    outcome = resume(run, Silent(), executor=Inline, force=True, **NAMED)
    assert outcome.stopped == "generations"
    with pytest.raises(RunError, match=r"source of outside:.* was .*--force"):
        replay(
            run, tmp_path / "again", Silent(), "", executor=Inline, **NAMED | {"policy": "outside:Patient"}
        )


def test_a_lost_checkpoint_of_a_run_by_a_move_of_ones_own_is_made_again(module: Path, tmp_path: Path) -> None:
    config, registry = configure("outside:space", OWN)
    run = tmp_path / "run"
    view = search(config, run, Silent(), "", Inline, registry).view
    record = next(r for r in view.trials if "twice(" in r.job.moves)
    assert record.result is not None
    shutil.rmtree(run / "checkpoints" / record.result.weights)
    with pytest.raises(RunError, match=r"nas fsck --repair .* --space outside:space"):
        repair(run, check(run), (), "outside:data", lambda *_: None)
    found = repair(run, check(run), (), "outside:data", lambda *_: None, space="outside:space")
    assert found.clean


def test_a_move_is_added_to_a_space_of_ours_and_an_objective_decides(module: Path, tmp_path: Path) -> None:
    given = {
        **OWN, "policy": "pareto", "objective": "outside:nodes", "moves": ["outside:Twice"], "children": 6,
        "moves_per_child": 1, "epochs": 0.2,
    }  # fmt: skip
    config, registry = configure("digits", given)
    run = tmp_path / "run"
    search(config, run, Recorder(stop_after=3), "", Inline, registry)
    again = {"moves": ["outside:Twice"], "objective": "outside:nodes"}
    for name in again:
        with pytest.raises(RunError, match=r"--objective outside:nodes --moves outside:Twice"):
            resume(run, Silent(), executor=Inline, data="outside:data", **{name: again[name]})
    outcome = resume(run, Silent(), executor=Inline, data="outside:data", **again)
    assert any("twice(" in record.job.moves for record in outcome.view.trials)


def test_an_executor_of_ones_own(module: Path, tmp_path: Path) -> None:
    module.write_text(module.read_text() + "from engine_support import Inline as Here\n")
    config, registry = configure("outside:space", {**OWN, "executor": "outside:Here"})

    def never(*_: Any) -> Any:
        raise AssertionError("ours is not asked")

    run = tmp_path / "run"
    outcome = search(config, run, Recorder(stop_after=1), "", never, registry)
    assert outcome.stopped == "interrupted"
    with pytest.raises(RunError, match=r"the executor of .* is code, outside:Here"):
        resume(run, Silent(), **NAMED)
    assert resume(run, Silent(), executor=never, place={"executor": "outside:Here"}, **NAMED).test is not None


def test_what_workers_could_not_import_is_refused_before_anything_is_written(
    module: Path, tmp_path: Path
) -> None:
    def data() -> Any:
        raise AssertionError

    registry = REGISTRY.with_(data={"local": data})
    config, registry = configure("digits", {"data": "local"}, registry)
    with pytest.raises(UserError, match="put it at the top level of a module"):
        search(config, tmp_path / "run", Silent(), "", Inline, registry)
    assert not (tmp_path / "run").exists()


def test_an_objective_that_fails_is_named(module: Path, tmp_path: Path) -> None:
    module.write_text(module.read_text() + "def wrong(graph):\n    return -1\n")
    given = {**OWN, "policy": "pareto", "objective": "outside:wrong"}
    config, registry = configure("digits", given)
    with pytest.raises(UserError, match=r"objective outside:wrong: it returned -1; return a number from 0"):
        search(config, tmp_path / "run", Silent(), "", Inline, registry)
