"""Removing runs: only what is a run's, never while it has a driver."""

from pathlib import Path

import pytest
from cli_support import make_run

from nas.base.errors import RunError
from nas.inspect.removal import remove
from nas.inspect.status import find_run
from nas.ledger.driver_lock import Lock
from nas.report import write_report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = tmp_path / "one"
    make_run(made, final=True)
    write_report(made)
    return made


def test_a_run_is_removed_whole(run: Path) -> None:
    (run / ".tmp-report.html-1").write_text("left by a killed report")
    assert "are free again" in remove(run)
    assert not run.exists()


def test_what_is_not_of_the_run_stays(run: Path, tmp_path: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (run / "workers.log").symlink_to(tmp_path / "elsewhere" / "kept")
    assert "notes.txt" in remove(run)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    assert (tmp_path / "elsewhere" / "kept").exists()
    with pytest.raises(RunError, match="not a run"):
        find_run(str(run))


def test_a_run_in_use_stays_whole(run: Path) -> None:
    before = sorted(path.name for path in run.iterdir())
    lock = Lock(run / "lock")
    with pytest.raises(RunError, match="in use"):
        remove(run)
    lock.close()
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_run_named_by_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    remove(tmp_path / "link")
    assert not run.exists()
