"""A run folder from somebody else: links, FIFOs and other names in it lead no command out of it, nor block one."""

import json
import os
import re
import shutil
import socket
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.base.errors import LedgerDamaged, RunError, UserError
from nas.data.run_arrays import read_kept
from nas.inspect.current_driver import holder_of_lock
from nas.inspect.fsck import check
from nas.inspect.status import statuses
from nas.ledger import Ledger, Store, read
from nas.ledger.files import canonical_json
from nas.ledger.run_files import discard, open_file

NAMES = ("config.json", "ledger.db", "ledger.db-journal", "ledger.json", "lock", "workers.log", "checkpoints")
KEY = "my only key\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside the run, with a file in it and another that looks like a leftover."""
    folder = tmp_path / "victim"
    (folder / ".tmp-x").mkdir(parents=True)
    for path in (folder / "key", folder / ".tmp-x/key"):
        path.write_text(KEY)
    return folder


def untouched(victim: Path) -> bool:
    files = {path.relative_to(victim).as_posix() for path in victim.rglob("*")}
    return files == {"key", ".tmp-x", ".tmp-x/key"} and all(
        (victim / name).read_text() == KEY for name in ("key", ".tmp-x/key")
    )


def gone(path: Path) -> None:
    """Remove an entry of a run; what it was is kept beside the run."""
    if path.is_dir():
        shutil.move(path, path.parent.parent / "kept")
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_is_named_and_its_target_is_left_alone(filled: Path, victim: Path, name: str) -> None:
    gone(filled / name)
    (filled / name).symlink_to(victim if name == "checkpoints" else victim / "key")
    for opened in (read, Ledger.open):
        with pytest.raises(RunError, match=f"{re.escape(str(filled / name))} is a symbolic link"):
            opened(filled)
    (status,) = statuses([filled])
    assert (status.state, name in str(status.problem)) == ("damaged", True)
    assert untouched(victim)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["a FIFO", "a socket"])
def test_what_would_block_is_named(
    filled: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(filled / name)
    monkeypatch.chdir(filled)  # the path of a socket is short
    if kind == "a FIFO":
        os.mkfifo(name)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(name)
    for opened in (read, Ledger.open):
        with pytest.raises(RunError, match=f"{re.escape(str(filled / name))} is {kind}"):
            opened(filled)
    assert holder_of_lock(filled) is None


@pytest.mark.parametrize("name", ["lock", "ledger.db", "workers.log"])
def test_a_second_name_is_not_written_to(filled: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    if not (filled / name).exists():
        (filled / name).touch()
    os.link(filled / name, other)
    before = other.read_bytes()
    assert read(filled).trials  # reading does no harm
    with pytest.raises(RunError, match=f"{re.escape(str(filled / name))} .*hard link"):
        Ledger.open(filled)
    assert other.read_bytes() == before


def test_a_lock_that_no_driver_wrote_is_not_emptied(filled: Path) -> None:
    (filled / "lock").write_text(KEY)
    with pytest.raises(RunError, match=f"{re.escape(str(filled / 'lock'))} holds what no driver wrote"):
        Ledger.open(filled)
    assert (filled / "lock").read_text() == KEY
    for cut in ("", '{"p', '{"pid": 1, "host": "h", "since": "s"}'):
        (filled / "lock").write_text(cut)
        Ledger.open(filled).close()


def test_a_new_run_follows_no_link_either(tmp_path: Path, victim: Path) -> None:
    run = tmp_path / "new"
    run.mkdir()
    (run / "lock").symlink_to(victim / "key")
    with pytest.raises(RunError, match="symbolic link"):
        Ledger.create(run, {"space": "digits"})
    (run / "lock").unlink()
    (run / ".tmp-x").symlink_to(victim)
    (run / "report.html").symlink_to(victim / "key")
    with Ledger.create(run, {"space": "digits"}):
        assert not (run / ".tmp-x").is_symlink()
    assert untouched(victim)


@pytest.mark.parametrize("inner", ["", "manifest.json", "graph.json", "weights.safetensors"])
def test_a_link_among_checkpoints_is_damage_and_can_be_removed(
    filled: Path, tmp_path: Path, inner: str
) -> None:
    store = Store(filled / "checkpoints")
    digest = store.digests()[0]
    kept = Path(shutil.copytree(store.path(digest), tmp_path / "kept"))
    files = {file.name: file.read_bytes() for file in kept.iterdir()}
    place = store.path(digest) / inner if inner else store.path(digest)
    discard(place)
    place.symlink_to(kept / inner)
    with pytest.raises(LedgerDamaged, match=digest[:12]):
        store.get(digest)
    assert [finding.digest for finding in check(filled).findings if finding.damage] == [digest]
    store.remove(digest)
    assert not os.path.lexists(store.path(digest))
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == files


def test_a_database_cannot_delete_a_file_elsewhere(filled: Path, victim: Path) -> None:
    """SQLite removes the file that a journal names as its super-journal, once it has rolled the journal back."""
    database = filled / "ledger.db"
    with sqlite3.connect(database, isolation_level=None) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("CREATE TABLE filler (x)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO filler VALUES (zeroblob(3000))", [()] * 50)
        journal = Path(f"{database}-journal").read_bytes()
        pages = database.read_bytes()
        connection.execute("ROLLBACK")
    connection.close()
    name = os.fsencode(victim / "key")
    end = struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    journal += struct.pack(">I", 2**30 // 4096 + 1) + name + end
    for opened in (read, Ledger.open):
        database.write_bytes(pages)
        Path(f"{database}-journal").write_bytes(journal)
        with pytest.raises(LedgerDamaged, match="names another file"):
            opened(filled)
        assert untouched(victim)
    sqlite3.connect(database).execute("SELECT count(*) FROM trials").fetchone()
    assert not (victim / "key").exists()  # that it would have been deleted


def test_a_shared_database_that_is_no_file_is_named(filled: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (filled / "ledger.json").write_text(f'{{"url": "sqlite:///{tmp_path}/fifo", "study": "s"}}')
    for opened in (read, Ledger.open):
        with pytest.raises(RunError, match="fifo is not a file"):
            opened(filled)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_kept_arrays_and_saved_networks_are_plain_files(
    tmp_path: Path, make: Callable[[Path], None], filled: Path
) -> None:
    import morphs
    from morphs.errors import CodecError

    make(tmp_path / "data.safetensors")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "data.safetensors"))):
        read_kept(tmp_path, "arrays:0")
    store = Store(filled / "checkpoints")
    weights = store.path(store.digests()[0]) / "weights.safetensors"
    weights.unlink()
    make(weights)
    with pytest.raises(CodecError, match=re.escape(str(weights))):
        morphs.load(weights.parent)


def test_weights_larger_than_their_graph_are_not_read(filled: Path) -> None:
    """A sparse file takes no space on the disk, and hours to hash or more than all memory to read."""
    import morphs
    from morphs.errors import WeightsError

    store = Store(filled / "checkpoints")
    digest = store.digests()[0]
    os.truncate(store.path(digest) / "weights.safetensors", 2**40)
    with pytest.raises(WeightsError, match="at most"):
        morphs.load(store.path(digest))
    with pytest.raises(LedgerDamaged, match="weights"):
        store.verify(digest)
    manifest = store.path(digest) / "manifest.json"
    document = json.loads(manifest.read_text())
    document["files"]["weights.safetensors"]["bytes"] = 2**40
    manifest.write_text(canonical_json(document))
    with pytest.raises(LedgerDamaged, match="bytes"):
        store.verify(digest)


def test_opening_never_truncates(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(KEY)
    os.close(open_file(tmp_path / "file", os.O_WRONLY | os.O_TRUNC))
    assert (tmp_path / "file").read_text() == KEY
