"""A ledger in a shared database: the same run, and one driver to it wherever copies of its folder lie.

The database is SQLite's, unless $NAS_TEST_DATABASE names another by its URL.
"""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from engine_support import Inline, Recorder, tiny
from rich.console import Console
from sqlalchemy import create_engine, inspect

from nas.base.errors import RunError, UserError
from nas.cli import tables
from nas.inspect.fsck import check
from nas.inspect.repair import repair
from nas.inspect.status import find_run, run_status, statuses
from nas.ledger import Ledger, lease, lease_status, read
from nas.ledger.driver_lock import Lock
from nas.ledger.lease import Lease
from nas.ledger.shared import Shared, new_place, place_of, point
from nas.ledger.study import build
from nas.report import write_report
from nas.run.events import Silent
from nas.run.lifecycle import replay, resume, search

Copy = Callable[[Path], Path]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return os.environ.get("NAS_TEST_DATABASE") or f"sqlite:///{tmp_path}/team.db"


@pytest.fixture
def run(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger without trials, whose drivers lose patience after two seconds."""
    monkeypatch.setattr(lease, "Lease", partial(Lease, beat=0.02, patience=2.0))
    Ledger.create(tmp_path / "run", {"space": "digits"}, url).close()
    return tmp_path / "run"


def test_a_search_comes_to_the_digest_of_one_with_a_file(finished: Any, tmp_path: Path, url: str) -> None:
    run = tmp_path / "run"
    assert search(tiny(ledger=url), run, Recorder(stop_after=2), "", Inline).stopped == "interrupted"
    assert sorted(entry.name for entry in run.iterdir()) == [
        "checkpoints", "config.json", "ledger.json", "lock",
    ]  # fmt: skip
    with pytest.raises(RunError, match=f"{run} "):
        search(tiny(ledger=url), run, Silent(), "", Inline)
    there = Path(shutil.copytree(run, tmp_path / "there"))  # another machine's copy goes on with it
    outcome = resume(there, Silent(), executor=Inline)
    assert outcome.view.digest == finished.outcome.view.digest
    assert read(run) == outcome.view
    assert check(there).clean
    assert run_status(find_run(str(there))).state == "finished"


def test_a_copy_that_lacks_what_others_told_is_made_whole_first(tmp_path: Path, url: str) -> None:
    run = tmp_path / "run"
    search(tiny(ledger=url), run, Recorder(stop_after=1), "", Inline)
    behind = Path(shutil.copytree(run, tmp_path / "behind"))
    resume(run, Recorder(stop_after=1), executor=Inline)
    with pytest.raises(RunError, match=r"\d of \d checkpoints are not in this copy .*nas fsck"):
        resume(behind, Silent(), executor=Inline)
    found = run_status(behind)
    assert found.problem is not None
    assert found.problem.endswith(
        " checkpoints are not in this folder: lost, or never in this copy of the run"
    )
    assert found.next == f"nas fsck {behind} --repair"
    assert repair(behind, check(behind), (), None, lambda *_: None).clean
    assert run_status(behind).problem is None
    assert resume(behind, Silent(), executor=Inline).view.final is not None


def test_a_second_driver_is_refused_with_the_name_of_the_first(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    with (
        Ledger.open(run),
        pytest.raises(RunError, match=rf"run-\w+ of .* is in use by process {os.getpid()} on"),
    ):
        Ledger.open(copy)
    Ledger.open(copy).close()


def test_a_silent_driver_gives_way_and_writes_nothing_when_it_wakes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    with monkeypatch.context() as patch:
        patch.setattr(lease, "Lease", partial(Lease, beat=100.0))
        asleep = Ledger.open(run)
    with Ledger.open(copy) as ours:
        with pytest.raises(RunError, match="another driver"):
            asleep.note("wall", 1.0)
        ours.note("wall", 2.0)
        asleep.close()  # frees its own lock, not our lease
        ours.note("wall", 3.0)
    assert read(copy).notes.wall == 3.0


def test_a_dead_driver_of_the_same_folder_is_followed_at_once(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "Lease", partial(Lease, patience=1e9))
    place = place_of(run)
    assert isinstance(place, Shared)
    lock = Lock(run / "lock")
    dead = Lease(place, run / "lock", beat=100.0)
    lock.close()  # as the kernel does when it dies; the lease stays as it is
    Ledger.open(run).close()
    assert dead._look() is not None
    dead.close()


def test_of_many_drivers_one_wins(tmp_path: Path, url: str) -> None:
    place, won, refused = new_place(tmp_path, url), list[Lease](), list[str]()
    build(place, {})
    start = threading.Barrier(4)

    def race(number: int) -> None:
        start.wait()
        (tmp_path / str(number)).touch()
        try:
            won.append(Lease(place, tmp_path / str(number), beat=0.02, patience=5.0))
        except RunError as error:
            refused.append(str(error))

    racers = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(won) == 1
    assert len(refused) == 3
    assert all("is in use by process" in said for said in refused)
    won[0].close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("postgresql://me:secret@host/db", "the URL has a password"),
        ("host/db", "URL of a database"),
        ("postgresql://me:secret@host:x/db", "URL of a database"),
        ("postgresql://host/db?password=secret", "the URL has the option password"),
        ("mysql+pymysql://host/db?local_infile=1", "the URL has the option local_infile"),
        ("postgresql://host/{0}", "has braces"),
        ("postgresql://host/d\x1b[2Jb", "unprintable"),
        ("postgresql://host/" + "x" * 5000, "is too long"),
        ("nosuch://host/db", "choose one of sqlite, postgresql"),
        ("sqlite+pysqlcipher:///x.db", "choose one of sqlite, postgresql"),
        ("sqlite://", "sqlite:////"),
        ("sqlite:///file:x.db?uri=true", "sqlite:////"),
        ("sqlite:////nowhere/at/all.db", "can't be used .*unable to open"),
    ],
)
def test_what_is_no_database_is_refused_in_one_line(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        Ledger.create(tmp_path / "run", {}, wrong)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


DAMAGED = [
    "{", "[]", "null", '{"url": 1, "study": "x"}', '{"url": "sqlite:///x"}', '{"url": "sqlite:///x", "study": ""}',
    '{"url": "sqlite:///x.db", "study": "a\\u001bb"}', '{"url": "sqlite:///x.db", "study": "x", "more": 1}',
    '{"url": "sqlite://", "study": "other"}', '{"url": "nosuch://x", "study": "other"}', "[" * 10_000, " " * 20_000,
    '{"url": "postgresql://me:secret@x/y", "study": "other"}', '{"url": "sqlite:///x", "study": "' + "x" * 600 + '"}',
]  # fmt: skip
WAYS: list[Callable[[Path], object]] = [read, Ledger.open, run_status, check, write_report]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_pointer_that_is_not_ours_is_refused_in_one_line(run: Path, text: str) -> None:
    (run / "ledger.json").write_text(text)
    for way in (read, Ledger.open):
        with pytest.raises(RunError, match=r"ledger\.json.*; restore it from a copy$") as caught:
            way(run)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_database_that_is_not_there_is_not_made(
    run: Path, tmp_path: Path, way: Callable[[Path], object]
) -> None:
    nowhere = tmp_path / "home" / "nowhere.db"
    nowhere.parent.mkdir()
    point(run, Shared(f"sqlite:///{nowhere}", "run-1"))
    with pytest.raises(RunError, match=r"nowhere\.db can't be used .*unable to open"):
        way(run)
    assert not list(nowhere.parent.iterdir())


@pytest.mark.parametrize("way", WAYS)
def test_the_ledger_of_another_run_is_neither_read_nor_written(
    run: Path, tmp_path: Path, way: Callable[[Path], object]
) -> None:
    other = tmp_path / "other"
    url = f"sqlite:///{tmp_path}/other.db"
    Ledger.create(other, {"space": "digits"}, url).close()  # the same configuration
    shutil.copy(other / "ledger.json", run / "ledger.json")
    engine = create_engine(url)
    with engine.begin() as connection:
        lease.LEASES.drop(connection)
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(RunError, match=r"restore config\.json and ledger\.json from one copy"):
        way(run)
    assert (tmp_path / "other.db").read_bytes() == before
    engine.dispose()


@pytest.mark.parametrize("way", WAYS)
def test_a_file_of_another_program_is_neither_read_nor_written(
    run: Path, tmp_path: Path, way: Callable[[Path], object]
) -> None:
    with closing(sqlite3.connect(tmp_path / "history.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE visits (page TEXT)")
        connection.commit()
    before = (tmp_path / "history.db").read_bytes()
    point(run, Shared(f"sqlite:///{tmp_path}/history.db", "run-1"))
    with pytest.raises(RunError) as caught:
        way(run)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "history.db").read_bytes() == before


def test_a_replay_writes_into_no_database_that_a_file_names(finished: Any, tmp_path: Path, url: str) -> None:
    source = tmp_path / "source"
    assert search(tiny(ledger=url), source, Silent(), "", Inline).view.final is not None
    outcome = replay(source, tmp_path / "again", Silent(), "", executor=Inline)
    assert outcome.view.digest == finished.outcome.view.digest
    assert (tmp_path / "again" / "ledger.db").is_file()
    assert not (tmp_path / "again" / "ledger.json").exists()


def fake_driver(place: Shared, folder: Path, beat: float) -> Lease:
    """A driver of another machine, as far as anyone here can tell: it has another kernel lock."""
    (folder / "elsewhere").touch()
    return Lease(place, folder / "elsewhere", beat=beat)


def test_a_driver_elsewhere_is_seen_by_its_lease(run: Path, tmp_path: Path) -> None:
    place = place_of(run)
    assert isinstance(place, Shared)
    assert run_status(run).state == "stopped"
    there = fake_driver(place, tmp_path, beat=0.02)
    found = run_status(run)
    assert (found.state, found.next) == ("running", f"nas status {run}")
    assert str(found.driver).startswith(f"process {os.getpid()} on ")
    assert str(found.until) > time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + 20))
    shown = StringIO()
    Console(file=shown, width=300).print(tables.status(found))
    assert f"running, by {found.driver}, whose lease holds until {found.until} at least" in shown.getvalue()
    there.close()
    assert (run_status(run).state, run_status(run).driver) == ("stopped", None)


def test_a_driver_elsewhere_that_gives_no_sign_of_life_is_neither_running_nor_dead(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_status, "WATCH_SECONDS", 0.5)
    place = place_of(run)
    assert isinstance(place, Shared)
    asleep = fake_driver(place, tmp_path, beat=100.0)
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    begin = time.monotonic()
    states = [(found.state, found.until, found.next) for found in statuses([run, copy])]
    assert time.monotonic() - begin < 5
    assert states == [("silent", None, f"nas resume {run}"), ("silent", None, f"nas resume {copy}")]
    asleep.close()


def test_who_died_holding_the_lock_of_this_folder_is_dead(run: Path) -> None:
    place = place_of(run)
    assert isinstance(place, Shared)
    dead = Lease(place, run / "lock", beat=0.02)  # the kernel freed its lock, were it not for this test
    assert run_status(run).driver is None
    dead.close()


def test_looking_for_a_driver_makes_nothing(run: Path, tmp_path: Path) -> None:
    place = place_of(run)
    assert isinstance(place, Shared)
    engine = create_engine(place.url)
    with engine.begin() as connection:
        lease.LEASES.drop(connection)
    assert lease_status.look(place) is None
    assert not inspect(engine).has_table(lease.LEASES.name)
    engine.dispose()
