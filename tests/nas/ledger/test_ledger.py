import errno
import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import morphs
from nas.base.errors import RunError, UserError
from nas.ledger import Job, Ledger, Result, current_versions, read, read_config
from nas.ledger.records import REASON, RESULT, job_attributes, seal
from nas.ledger.sqlite import WRITE
from nas.ledger.study import Study

Jobs, Results, Make = Callable[..., Job], Callable[..., Result], Callable[[int], morphs.Network]


def contents(run: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a run with its inode, time and bytes."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


class Doubtful(sqlite3.Connection):
    """Its next commit takes effect and then says that the disk failed, as where the sync of the folder fails."""

    failing = False

    def commit(self) -> None:
        super().commit()
        if Doubtful.failing:
            Doubtful.failing = False
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_DIR_FSYNC
            raise error


def test_a_trial_whose_commit_failed_but_took_effect_is_there_once(
    run: Path, job: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **named: connect(*a, **named, factory=Doubtful))
    with Ledger.create(run, {}) as ledger:
        Doubtful.failing = True
        with pytest.raises(RunError, match=r"the disk fails or is full; free space and resume"):
            ledger.ask(job())
    with Ledger.open(run) as ledger:
        assert ledger.interrupted() == ((0, job()),)
        ledger.fail(0, "loss is nan at step 7")
    assert len(read(run).trials) == 1


def test_a_temporary_file_that_cannot_be_removed_stops_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "unlink", failing)
    Ledger.create(run, {}).close()


def test_what_is_told_is_read_back(run: Path, job: Jobs, result: Results, network: Make) -> None:
    with Ledger.create(run, {"space": "digits", "seed": 0}) as ledger:
        told = result(ledger.store.put(network(0)))
        number = ledger.ask(job())
        assert ledger.view().trial("0.0").state == "running"
        ledger.tell(number, told)
        ledger.fail(ledger.ask(job(0, 1)), "loss is nan at step 7")
        view = ledger.view()
    assert view == read(run)
    record, failed = view.trials
    assert (record.job, record.state, record.result, record.number) == (job(), "complete", told, number)
    assert record.finished is not None
    assert record.started <= record.finished
    assert (failed.state, failed.result, failed.reason) == ("failed", None, "loss is nan at step 7")
    assert dict(read_config(run).config) == {"space": "digits", "seed": 0}
    assert dict(read_config(run).versions) == current_versions()
    with Ledger.open(run) as again:
        assert again.view() == view
        assert again.interrupted() == ()
        assert again.ask(job(1, 0)) == 2


def test_interrupted_trials_are_handed_back_until_they_end(
    run: Path, job: Jobs, result: Results, network: Make
) -> None:
    with Ledger.create(run, {}) as ledger:
        weights = ledger.store.put(network(0))
        numbers = [ledger.ask(job(0, slot)) for slot in (2, 0, 1)]
        assert ledger.interrupted() == ()
    with Ledger.open(run) as ledger:
        assert ledger.interrupted() == (
            (numbers[1], job(0, 0)),
            (numbers[2], job(0, 1)),
            (numbers[0], job(0, 2)),
        )
        ledger.tell(numbers[1], result(weights))
        ledger.fail(numbers[0], "thrown")
        ledger.ask(job(0, 3))
        assert ledger.interrupted() == ((numbers[2], job(0, 1)),)


def test_a_trial_without_a_job_becomes_fail_and_counts_for_nothing(run: Path, job: Jobs) -> None:
    import optuna

    with Ledger.create(run, {}) as ledger:
        ledger.ask(job())
        digest = ledger.view().digest
    connection = sqlite3.connect(run / "ledger.db")
    columns, row = "number, study_id, state, datetime_start", "1, 1, 'RUNNING', '2026-01-01 00:00:00.0'"
    connection.execute(f"INSERT INTO trials ({columns}) VALUES ({row})")
    connection.commit()
    connection.close()
    assert len(read(run).trials) == 1
    with Ledger.open(run) as ledger:
        assert [number for number, _ in ledger.interrupted()] == [0]
        assert ledger.view().digest == digest
        assert ledger.ask(job(0, 1)) == 2
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{run / 'ledger.db'}")
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "FAIL", "RUNNING"]


def test_a_result_that_was_written_but_not_told_is_told_on_opening(
    filled: Path, job: Jobs, result: Results
) -> None:
    weights = read(filled).trials[0].result
    assert weights is not None
    told = result(weights.weights)
    study = Study(filled / "ledger.db", WRITE)
    study.write(3, RESULT, seal(RESULT, "1.0", told.to_dict()))
    study.close()
    assert read(filled).trial("1.0").state == "running"
    with Ledger.open(filled) as ledger:
        assert ledger.interrupted() == ()
        assert ledger.view().trial("1.0").result == told


def test_such_a_result_without_its_checkpoint_is_run_again(filled: Path, job: Jobs, result: Results) -> None:
    weights = read(filled).trials[0].result
    assert weights is not None
    study = Study(filled / "ledger.db", WRITE)
    study.write(3, RESULT, seal(RESULT, "1.0", result(weights.weights).to_dict()))
    study.close()
    (filled / "checkpoints" / weights.weights / "weights.safetensors").write_bytes(b"")
    with Ledger.open(filled) as ledger:
        assert [number for number, _ in ledger.interrupted()] == [3]
        ledger.tell(3, result(weights.weights, scores={"val_accuracy": 0.9}))
        best = ledger.view().best
        assert best is not None
        assert best.key == "1.0"


def test_a_failure_that_was_written_but_not_told_is_told_on_opening(filled: Path) -> None:
    study = Study(filled / "ledger.db", WRITE)
    study.write(3, REASON, seal(REASON, "1.0", "out of memory"))
    study.close()
    with Ledger.open(filled) as ledger:
        assert ledger.interrupted() == ()
        assert ledger.view().trial("1.0").reason == "out of memory"


def test_what_a_driver_must_not_do(filled: Path, job: Jobs, result: Results) -> None:
    weights = read(filled).trials[0].result
    assert weights is not None
    with Ledger.open(filled) as ledger:
        before = ledger.view()
        with pytest.raises(RunError, match=rf"ask: trial 0\.1 .*{filled}"):
            ledger.ask(job(0, 1))
        with pytest.raises(RunError, match=r"tell: trial 0\.0 .*complete"):
            ledger.tell(0, result(weights.weights))
        with pytest.raises(RunError, match=r"tell: trial 0\.2 .*failed"):
            ledger.tell(2, result(weights.weights))
        with pytest.raises(RunError, match=r"fail: trial 0\.0 .*complete"):
            ledger.fail(0, "no")
        with pytest.raises(RunError, match=r"^tell: .*\b99\b"):
            ledger.tell(99, result(weights.weights))
        with pytest.raises(RunError, match=r"trial 1\.0: checkpoint 0{12} .*checkpoints"):
            ledger.tell(3, result("0" * 64))
        assert ledger.view() == before
    assert read(filled) == before


def test_a_long_reason_is_cut_and_a_huge_job_refused(run: Path, job: Jobs) -> None:
    with Ledger.create(run, {}) as ledger:
        ledger.fail(ledger.ask(job()), "é" * 10**6)
        reason = ledger.view().trials[0].reason
        assert reason is not None
        assert 1000 < len(reason) < 10**5
        with pytest.raises(RunError, match=r"characters, more than .*; give a smaller job"):
            ledger.ask(job(0, 1, graph="x" * 2**25))
        assert len(ledger.view().trials) == 1


def test_a_run_is_made_once(run: Path) -> None:
    Ledger.create(run, {}).close()
    with pytest.raises(RunError, match=f"^{run} "):
        Ledger.create(run, {})
    Ledger.open(run).close()


def test_a_half_made_run_is_made_again(run: Path) -> None:
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / ".tmp-ledger.db-1-abc").write_bytes(b"half")
    Ledger.create(run, {"x": 1}).close()
    assert read(run).trials == ()


def test_paths_with_odd_characters(tmp_path: Path, job: Jobs) -> None:
    run = tmp_path / "a {b} ?c=%41 #d' é"
    with Ledger.create(run, {}) as ledger:
        ledger.ask(job())
    assert len(read(run).trials) == 1
    with Ledger.open(run) as ledger:
        assert len(ledger.interrupted()) == 1


def test_relative_paths(tmp_path: Path, job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Ledger.create(Path("run"), {}) as ledger:
        ledger.ask(job())
    assert len(read(Path("run")).trials) == 1


@pytest.mark.parametrize(
    "config", [{"x": float("nan")}, {"x": {1, 2}}, {1: 2}, {"x": (1, 2)}, {"x": "y" * 5 * 2**20}]
)
def test_a_configuration_that_would_not_read_back(run: Path, config: Any) -> None:
    with pytest.raises(UserError, match=r"^configuration: it"):
        Ledger.create(run, config)
    Ledger.create(run, {"x": 1}).close()


def test_reading_leaves_no_trace_even_beside_a_driver(filled: Path, job: Jobs) -> None:
    before = contents(filled)
    assert len(read(filled).trials) == 4
    assert contents(filled) == before
    with Ledger.open(filled) as ledger:
        ledger.ask(job(5, 5))
        before = contents(filled)
        assert read(filled) == ledger.view()
        assert contents(filled) == before


def test_reading_in_the_middle_of_a_transaction(filled: Path) -> None:
    writer = sqlite3.connect(filled / "ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE trials SET number = number + 100")
    assert [record.number for record in read(filled).trials] == [0, 1, 2, 3]
    writer.execute("ROLLBACK")
    writer.close()


DYING = """
import os, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
writer.execute("PRAGMA cache_size=2")
writer.execute("BEGIN IMMEDIATE")
writer.execute("UPDATE trial_user_attributes SET value_json = '\\"' || hex(randomblob(9000)) || '\\"'")
writer.execute("UPDATE trials SET number = number + 100")
os.kill(os.getpid(), 9)
"""


def test_reading_after_a_driver_died_in_a_transaction(filled: Path) -> None:
    known = read(filled)
    subprocess.run([sys.executable, "-c", DYING, str(filled / "ledger.db")], check=False)
    assert (filled / "ledger.db-journal").exists()
    before = contents(filled)
    assert read(filled) == known
    assert contents(filled) == before
    with Ledger.open(filled) as ledger:
        assert ledger.view() == known
    assert not (filled / "ledger.db-journal").exists()
    assert read(filled) == known


def test_the_journal_and_the_durability_are_as_promised(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        engine = ledger._study._storage.engine  # pyright: ignore[reportPrivateUsage]
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 3  # EXTRA


def test_optuna_opens_a_run(filled: Path) -> None:
    import optuna

    study = optuna.load_study(study_name="search", storage=f"sqlite:///{filled / 'ledger.db'}")
    assert study.best_value == 0.6
    assert study.direction.name == "MAXIMIZE"
    assert study.best_trial.params == {
        "kind": "child", "move": "widen", "generation": 0, "parameters": 51, "multiply-adds": 48, "depth": 1
    }  # fmt: skip
    assert study.best_trial.user_attrs["memo.params"] == 51
    assert set(study.trials_dataframe()["params_move"]) == {"widen"}


def test_the_objective_is_what_selects_and_is_named(
    run: Path, job: Jobs, result: Results, network: Make
) -> None:
    """So Optuna's best trial is the one with the best value of the score that the search selects by."""
    import optuna

    facts = {"config": {"select": "loss"}, "task": {"scores": ["accuracy"]}}
    with Ledger.create(run, facts) as ledger:
        for slot, loss in enumerate((0.9, 0.3, 0.5)):
            number = ledger.ask(job(0, slot))
            weights = ledger.store.put(network(slot))
            ledger.tell(number, result(weights, scores={"val_accuracy": 0.5, "val_loss": loss}))
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{run / 'ledger.db'}")
    assert study.direction.name == "MINIMIZE"
    assert study.metric_names == ["validation loss"]
    assert (study.best_value, study.best_trial.number) == (0.3, 1)
    assert len(read(run).complete) == 3


def test_moves_that_a_study_does_not_know_have_a_place(run: Path, job: Jobs) -> None:
    chains = ("", "widen(node=c, to=6)", "widen(node=c); deepen(edge=x)", "invented_later(a=1)")
    with Ledger.create(run, {}) as ledger:
        for slot, moves in enumerate(chains):
            ledger.ask(job(0, slot, moves=moves))
        entries = ledger._study._storage.get_all_trials(1)  # pyright: ignore[reportPrivateUsage]
    assert [trial.params["move"] for trial in entries] == ["none", "widen", "several", "other"]


def test_nothing_is_printed_and_no_logger_is_left_changed(
    run: Path, job: Jobs, capfd: pytest.CaptureFixture[str]
) -> None:
    import optuna

    before = (optuna.logging.get_verbosity(), logging.getLogger().handlers[:], logging.getLogger().level)
    with Ledger.create(run, {}) as ledger:
        ledger.fail(ledger.ask(job()), "x")
    Ledger.open(run).close()
    assert (
        optuna.logging.get_verbosity(),
        logging.getLogger().handlers[:],
        logging.getLogger().level,
    ) == before
    assert capfd.readouterr() == ("", "")


def test_jobs_and_checkpoints_are_handled_without_optuna_or_torch() -> None:
    script = (
        "import sys, nas.ledger; sys.exit(bool({'optuna', 'torch', 'sqlalchemy', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_optuna_is_imported_by_the_study_and_the_samplers_alone() -> None:
    import nas

    root = Path(os.path.dirname(nas.__file__ or ""))
    users = [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*.py"))
        if any(
            line.strip().startswith(("import optuna", "from optuna"))
            for line in path.read_text().splitlines()
        )
    ]
    assert users == ["adapters/optuna_sampler.py", "ledger/study.py", "policies/tpe.py"]


def test_the_attribute_of_a_job_is_plain_json(job: Jobs) -> None:
    attributes = job_attributes(job(2, 3))
    assert json.loads(json.dumps(attributes)) == attributes
    assert attributes["job"]["body"]["parent"] == "1.0"
