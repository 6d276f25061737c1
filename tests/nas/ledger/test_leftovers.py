"""What killed processes leave: the next command removes it, and nothing that a living process works on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.export.write import check_target
from nas.inspect.fsck import check
from nas.ledger import Ledger
from nas.ledger.files import atomic_write
from nas.ledger.leftovers import abandoned, clear, temporary_file, temporary_folder

MAKER = """
import sys, time
from pathlib import Path
from nas.ledger.leftovers import temporary_file, temporary_folder
run = Path(sys.argv[1])
with temporary_file(run / "report.html", b"x" * 1000), temporary_folder(".tmp-ray-", run), \\
        temporary_folder(".export-", run / "to"):
    print("made", flush=True)
    time.sleep(60)
"""


def maker(run: Path) -> subprocess.Popen[str]:
    """A process that has three temporary entries in `run`."""
    process = subprocess.Popen([sys.executable, "-c", MAKER, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def hidden(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith((".tmp-", ".export-")))


def test_the_next_driver_clears_what_the_killed_left_and_only_that(filled: Path) -> None:
    (filled / "to").mkdir()
    with maker(filled) as process:
        assert (len(hidden(filled)), len(hidden(filled / "to"))) == (2, 1)
        assert not [finding for finding in check(filled).findings if finding.what == "temporary"]
        Ledger.open(filled).close()
        clear(filled)
        atomic_write(filled / "report.html", b"report")
        with pytest.raises(Exception, match="not empty"):
            check_target(filled / "to")
        assert (len(hidden(filled)), len(hidden(filled / "to"))) == (2, 1)
        process.send_signal(signal.SIGKILL)
    (filled / "checkpoints/.tmp-1").mkdir()
    (filled / ".tmp-ledger.db-1-ab").write_bytes(b"from before")
    found = [finding for finding in check(filled).findings if finding.what == "temporary"]
    assert sorted(finding.fact.partition(":")[0] for finding in found) == sorted(
        [*hidden(filled), "checkpoints/.tmp-1"]
    )
    assert {(finding.state, finding.damage) for finding in found} == {("left over", False)}
    check_target(filled / "to")
    assert not hidden(filled / "to")
    Ledger.open(filled).close()
    assert not hidden(filled)
    assert not hidden(filled / "checkpoints")
    assert not [finding for finding in check(filled).findings if finding.what == "temporary"]
    assert (filled / "report.html").read_bytes() == b"report"


def test_writing_a_file_again_clears_what_its_killed_writers_left(tmp_path: Path) -> None:
    for name in (".tmp-report.html-1-ab", ".tmp-report.html-2-cd", ".tmp-other-1-ab"):
        (tmp_path / name).write_text("half")
    with temporary_file(tmp_path / "report.html", b"another writer's") as others:
        atomic_write(tmp_path / "report.html", b"whole")
        assert hidden(tmp_path) == sorted([".tmp-other-1-ab", others.name])
        others.replace(tmp_path / "report.html")
    assert hidden(tmp_path) == [".tmp-other-1-ab"]
    assert (tmp_path / "report.html").read_bytes() == b"another writer's"


def test_only_folders_of_exactly_such_a_name_are_removed(tmp_path: Path) -> None:
    others = ["nas-ledger-photos", "nas-ledger-0123456789abc", "nas-ledger-"]
    for name in (*others, "nas-ledger-0123456789ab"):
        (tmp_path / name).mkdir()
    with temporary_folder("nas-ledger-", tmp_path) as made:
        (made / "file").touch()
        assert {entry.name for entry in tmp_path.iterdir()} == {*others, made.name}
    assert {entry.name for entry in tmp_path.iterdir()} == set(others)


def test_of_a_link_only_itself_is_removed_and_a_fifo_is_left(tmp_path: Path) -> None:
    run, victim = tmp_path / "run", tmp_path / "victim"
    for folder in (run, victim):
        folder.mkdir()
    (victim / "key").write_text("key")
    (run / ".tmp-link").symlink_to(victim)
    (run / ".tmp-dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(run / ".tmp-fifo")
    assert [path.name for path in abandoned(run)] == [".tmp-dangling", ".tmp-link"]
    clear(run)
    assert hidden(run) == [".tmp-fifo"]
    assert (victim / "key").read_text() == "key"
