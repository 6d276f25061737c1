import json
import os
import shutil
from pathlib import Path

import pytest
from cli_support import make_run

from nas.base.errors import RunError, UserError
from nas.inspect.status import (
    disk_bytes,
    driver_of,
    find_run,
    overhead,
    run_folders,
    run_status,
    status_or_problem,
)
from nas.ledger import Ledger, LedgerView


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stopped run at runs/one below the working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, "runs/one"))


def test_a_stopped_run(run: Path) -> None:
    found = run_status(run)
    assert (found.state, found.generation, found.generations) == ("stopped", 1, 3)
    assert (found.complete, found.failed, found.running) == (2, 0, 0)
    assert (found.best_trial, found.best_val_accuracy, found.test_accuracy) == ("1.1", 0.9, None)
    assert (found.seconds, found.space, found.seed) == (40.0, "digits", 0)
    assert found.overhead == pytest.approx(1 - 24 / 40)
    assert (found.command, found.next) == ("nas search digits --seed 0", "nas resume runs/one")
    assert found.disk_bytes == disk_bytes(run) > 10_000
    assert json.loads(found.to_json())["best_trial"] == "1.1"


def test_a_finished_run_stands_by_its_final_network(tmp_path: Path) -> None:
    found = run_status(make_run(tmp_path / "run", final=True))
    assert (found.state, found.best_trial, found.generation) == ("finished", "2.0", 1)
    assert (found.best_val_accuracy, found.test_accuracy) == (0.95, 0.94)
    assert found.next == f"nas export {tmp_path / 'run'} --to DIR"


def test_a_run_by_code_of_the_users_goes_on_when_the_code_is_named_again(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["config"]["config"]["policy"] = "greedy:Greedy"
    (run / "config.json").write_text(json.dumps(config))
    assert run_status(run).next == "nas resume runs/one --policy greedy:Greedy"


def test_a_driver_is_seen_and_not_disturbed(run: Path) -> None:
    assert driver_of(run) is None
    with Ledger.open(run):
        found = run_status(run)
        assert found.state == "running"
        assert found.driver is not None
        assert f"process {os.getpid()} on " in found.driver
    assert driver_of(run) is None
    Ledger.open(run).close()  # looking has left no lock behind


def test_what_a_killed_driver_left_in_training(tmp_path: Path) -> None:
    found = run_status(make_run(tmp_path / "run", running=True))
    assert (found.state, found.running) == ("stopped", 1)


def test_overhead_counts_what_overlaps_once() -> None:
    assert overhead(LedgerView(()), 10.0) == 1.0
    assert overhead(LedgerView(()), 0.0) == 0.0


def test_a_run_is_found_by_path_and_by_name(run: Path) -> None:
    assert find_run("runs/one") == run
    assert find_run("one") == run
    assert find_run(str(run.absolute())) == run.absolute()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("onee", r'"onee".* one\?'),
        ("qqq", "qqq.*nas runs"),
        ("runs", r"^runs .*config\.json"),
        ("file", "^file "),
        ("", '""'),
        ("\0", r"\\x00"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("x" * 300, "x" * 79),
        ("x" * 5000, "x" * 79),
    ],
)
def test_what_is_no_run(run: Path, name: str, says: str) -> None:
    Path("file").touch()
    with pytest.raises(RunError, match=says):
        find_run(name)


def test_runs_newest_first(run: Path) -> None:
    for name, age in (("two", 10), ("three", 20)):
        shutil.copytree(run, f"runs/{name}")
        os.utime(f"runs/{name}/config.json", (1e9 - age, 1e9 - age))
    Path("runs/recipes").mkdir()
    Path("runs/README.md").touch()
    assert [found.name for found in run_folders(Path("runs"))] == ["one", "two", "three"]
    assert run_folders(Path("nowhere")) == []
    with pytest.raises(UserError, match=r"README\.md can't be listed"):
        run_folders(Path("runs/README.md"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 3}', "\0" * 100, "[" * 100_000])
def test_a_run_with_a_broken_configuration(run: Path, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json"):
        run_status(run)
    found = status_or_problem(run)
    assert found.state == "damaged"
    assert "config.json" in str(found.problem)
    json.loads(found.to_json())


def test_a_run_with_a_broken_ledger(run: Path) -> None:
    (run / "ledger.db").write_bytes(b"nonsense" * 1000)
    assert status_or_problem(run).state == "damaged"
    (run / "ledger.db").unlink()
    assert "ledger.db is missing" in str(status_or_problem(run).problem)


@pytest.mark.parametrize("odd", [{"config": {"generations": True}}, {"command": []}, {"config": 7}])
def test_odd_fields_of_a_configuration_are_named(run: Path, odd: dict[str, object]) -> None:
    document = json.loads((run / "config.json").read_text())
    document["config"] = odd
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match=r"generations|command|config: config"):
        run_status(run)
