import gzip
import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from nas.base.errors import LedgerDamaged, RunError
from nas.ledger import Job, Ledger, read
from nas.ledger.opening import open_study
from nas.ledger.sqlite import READ

GOLDEN = Path(__file__).parent / "golden"


def edit(run: Path, *statements: str) -> None:
    """Change the database the way another program would."""
    connection = sqlite3.connect(run / "ledger.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def refused(run: Path, kind: type[RunError], match: str) -> None:
    """Both ways into a run refuse it with one line."""
    for enter in (read, Ledger.open):
        with pytest.raises(RunError, match=match) as caught:
            enter(run)
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trial_values SET value = 0.99 WHERE trial_id = 1",
        "DELETE FROM trial_values WHERE trial_id = 1",
        """UPDATE trial_user_attributes SET value_json = replace(value_json, '0.6', '0.7') WHERE key = 'result'""",
        """UPDATE trial_user_attributes SET value_json = replace(value_json, '"seed": 1,', '"seed": 2,')""",
        "UPDATE trial_user_attributes SET value_json = 'null'",
        "UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'job'",
        "UPDATE trial_user_attributes SET value_json = substr(value_json, 1, 100)",
        "UPDATE trial_user_attributes SET key = 'jnb' WHERE key = 'job' AND trial_id = 3",
        "DELETE FROM trial_user_attributes WHERE key = 'result'",
        "UPDATE trials SET state = 'PRUNED' WHERE number = 2",
        "UPDATE trials SET state = 'FAIK' WHERE number = 2",
        "UPDATE trials SET state = 'COMPLETE' WHERE number = 2",
        "UPDATE trials SET datetime_start = 'yesterday' WHERE number = 2",
        "UPDATE trials SET number = 7 WHERE number = 2",
        "UPDATE trials SET number = 1 WHERE number = 2",
        "DELETE FROM trials WHERE number = 1",
        "DELETE FROM studies",
        "UPDATE studies SET study_name = 'x'",
        "DELETE FROM version_info",
        "DELETE FROM alembic_version",
        "DROP TABLE trial_params",
        "DROP TABLE trials",
        "DELETE FROM study_user_attributes",
        "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END",
        "CREATE VIEW v AS SELECT 1",
        f"UPDATE trial_user_attributes SET value_json = '{'[' * 50_000}'",
        f"UPDATE trial_user_attributes SET value_json = '{'[' * 50_000}{']' * 50_000}'",
        "UPDATE trial_user_attributes SET value_json = hex(zeroblob(17000000)) WHERE trial_id = 1",
        "UPDATE study_user_attributes SET value_json = hex(zeroblob(17000000))",
    ],
)
def test_a_changed_database_is_damaged(filled: Path, statement: str) -> None:
    edit(filled, statement)
    refused(filled, LedgerDamaged, "ledger.db is damaged .*; restore it from a copy or start a new run")


def test_optuna_writes_nothing_of_a_query_that_fails(filled: Path) -> None:
    """A line of its own for what we raise: it would stand beside the one line of the command."""
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append
    logging.getLogger("optuna").addHandler(handler)
    study = open_study(filled / "ledger.db", READ)
    edit(filled, "DROP TABLE trial_user_attributes")
    with pytest.raises(LedgerDamaged):
        study.entries()
    study.close()
    logging.getLogger("optuna").removeHandler(handler)
    assert not said


def test_two_jobs_in_one_place_are_damage(filled: Path) -> None:
    first = "(SELECT value_json FROM trial_user_attributes WHERE trial_id = 3 AND key = 'job')"
    edit(filled, f"UPDATE trial_user_attributes SET value_json = {first} WHERE trial_id = 4 AND key = 'job'")
    refused(filled, LedgerDamaged, r"two trials have the place 0\.2")


def test_an_exchanged_result_is_damage(filled: Path) -> None:
    one = "(SELECT value_json FROM trial_user_attributes WHERE trial_id = 2 AND key = 'result')"
    edit(
        filled,
        f"UPDATE trial_user_attributes SET value_json = {one} WHERE trial_id = 1 AND key = 'result'",
        "UPDATE trial_values SET value = 0.6",
    )
    refused(filled, LedgerDamaged, "result of a trial is not what was written")


@pytest.mark.parametrize(
    "content", [b"", b"SQLite format 3\0", b"\0" * 8192, b"garbage" * 5000, b"\x80\x04cos\nsystem\n"]
)
def test_what_is_no_database_is_damaged(filled: Path, content: bytes) -> None:
    (filled / "ledger.db").write_bytes(content)
    refused(filled, LedgerDamaged, "is damaged")


def test_truncation_is_damage(filled: Path) -> None:
    path = filled / "ledger.db"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 23)):
        path.write_bytes(whole[:length])
        with pytest.raises(LedgerDamaged):
            read(filled)
    path.write_bytes(whole[:-1])
    refused(filled, LedgerDamaged, "is damaged")


def test_a_flipped_byte_is_noticed_or_changes_nothing_that_counts(
    filled: Path, flip_byte: Callable[..., None]
) -> None:
    """What SQLite's own structure, the seals and the checks among trials leave are free bytes, times and plots."""
    path, digest = filled / "ledger.db", read(filled).digest
    places = Random(0).sample(range(path.stat().st_size), 120)
    noticed = 0
    for place in places:
        flip_byte(path, place, 1 << place % 8)
        try:
            assert read(filled).digest == digest
        except RunError:
            noticed += 1
        flip_byte(path, place, 1 << place % 8)
    assert read(filled).digest == digest
    assert noticed > 0


def test_a_flipped_byte_in_what_was_decided_is_noticed(filled: Path, flip_byte: Callable[..., None]) -> None:
    path = filled / "ledger.db"
    data = path.read_bytes()
    for text in (
        b'"val_accuracy": 0.6',
        b'"weights": "',
        b'"seed": 1,',
        b'"moves": "widen',
        b'"fingerprint": "',
    ):
        places = [place for place in range(len(data)) if data.startswith(text, place)]
        assert places
        for place in places:
            flip_byte(path, place + len(text) - 1, 1)
        with pytest.raises(LedgerDamaged):
            read(filled)
        path.write_bytes(data)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"format":1,"config":{}', b"null", b"[]", b"\xff", b"[" * 10**5, b"{}"]
)
def test_a_torn_configuration(filled: Path, content: bytes) -> None:
    (filled / "config.json").write_bytes(content)
    refused(filled, RunError, r"config\.json .*; restore it from a copy or start a new run")


def test_a_huge_configuration_is_not_read(filled: Path) -> None:
    with (filled / "config.json").open("wb") as file:
        file.truncate(2**34)
    refused(filled, RunError, r"config\.json .*4194304 bytes")


def test_a_changed_configuration_needs_force(filled: Path) -> None:
    path = filled / "config.json"
    path.write_text(path.read_text().replace("digits", "cifar"))
    with pytest.raises(
        RunError,
        match=r'config\.json .*was "digits" and is "cifar"',
    ):
        Ledger.open(filled)
    Ledger.open(filled, force=True).close()
    assert len(read(filled).trials) == 4


def test_other_versions_are_no_changed_configuration(filled: Path) -> None:
    path = filled / "config.json"
    document = json.loads(path.read_text())
    document["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(document))
    with Ledger.open(filled) as ledger:
        assert ledger.config.versions["torch"] == "1.0"


@pytest.mark.parametrize("missing", ["config.json", "ledger.db"])
def test_a_folder_that_is_no_run_is_left_alone(filled: Path, missing: str) -> None:
    (filled / missing).unlink()
    (filled / "lock").unlink()
    refused(filled, RunError, f"{missing} is missing; ")
    assert not (filled / "lock").exists()


def test_no_folder_at_all(tmp_path: Path) -> None:
    refused(tmp_path / "none", RunError, f"^{tmp_path / 'none'} ")
    refused(tmp_path, RunError, f"^{tmp_path} ")
    assert list(tmp_path.iterdir()) == []


def test_a_place_whose_name_is_too_long_for_sqlite(filled: Path, tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d" * 100] * 6)
    deep.mkdir(parents=True)
    moved = filled.rename(deep / "run")
    refused(moved, RunError, "whole path")
    with pytest.raises(RunError, match="whole path"):
        Ledger.create(deep / "new", {"space": "digits"})
    assert not list((deep / "new").glob("ledger.db"))


def test_the_study_of_another_program(filled: Path) -> None:
    import optuna

    (filled / "ledger.db").unlink()
    study = optuna.create_study(study_name="search", storage=f"sqlite:///{filled / 'ledger.db'}")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    refused(filled, LedgerDamaged, r"ledger\.db .*study")


def test_the_database_of_another_run(filled: Path, tmp_path: Path) -> None:
    Ledger.create(tmp_path / "other", {"space": "digits"}).close()
    (tmp_path / "other/ledger.db").replace(filled / "ledger.db")
    refused(filled, RunError, r"restore config\.json and ledger\.db from one copy")


@pytest.mark.parametrize("name", ["../../other", "", 7, "A" * 32, "a" * 33])
def test_a_name_of_the_run_that_is_none(filled: Path, name: object) -> None:
    document = json.loads((filled / "config.json").read_text())
    (filled / "config.json").write_text(json.dumps({**document, "run": name}))
    refused(filled, RunError, r"config\.json .*run: .*; restore it from a copy")


def test_a_newer_format(filled: Path) -> None:
    edit(
        filled,
        """UPDATE study_user_attributes SET value_json = replace(value_json, '"format": 2', '"format": 3')""",
    )
    refused(filled, RunError, "has format 3, not 2; use the version that wrote it")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from nas.base.errors import RunError, LedgerDamaged
from nas.ledger import Job, Ledger, read
from nas.ledger.opening import open_study
from nas.ledger.sqlite import READ
run = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = (run / "ledger.db").stat().st_size
done = 0
with Ledger.open(run) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 16384, resource.RLIM_INFINITY))
    try:
        for slot in range(1000):
            ledger.fail(ledger.ask(Job("child", 9, slot, None, "", 0, 1, "x" * 3000)), "no")
            done += 1
    except RunError as error:
        assert not isinstance(error, LedgerDamaged), error
        assert "free space and resume" in str(error), error
    else:
        sys.exit("the disk never filled")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with Ledger.open(run) as ledger:
    assert len([t for t in ledger.view().generation(9) if t.state == "failed"]) >= done, done
    ledger.fail(ledger.ask(Job("child", 10, 0, None, "", 0, 1, "x" * 3000)), "no")
assert read(run).trial("10.0").state == "failed"
"""


def test_a_full_disk_stops_the_driver_and_loses_nothing(filled: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(filled)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_ledger_of_an_earlier_version_keeps_opening(tmp_path: Path, job: Callable[..., Job]) -> None:
    """golden/format-1: made once by the first version; never made again, so that old runs go on."""
    golden = json.loads((GOLDEN / "format-1.json").read_text())
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(golden["config.json"])
    (run / "ledger.db").write_bytes(gzip.decompress((GOLDEN / "format-1.db.gz").read_bytes()))
    view = read(run)
    assert view.digest == golden["digest"]
    assert {record.key: record.state for record in view.trials} == golden["states"]
    with Ledger.open(run) as ledger:
        assert [job.key for _, job in ledger.interrupted()] == golden["interrupted"]
        assert ledger.view() == view
        ledger.fail(ledger.ask(job(7, 7)), "still writable")
    assert read(run).digest != golden["digest"]
