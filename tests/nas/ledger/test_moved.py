"""A run whose folder or lock is taken away while a driver has it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import morphs
from nas.base.errors import RunError
from nas.inspect.current_driver import holder_of_lock
from nas.ledger import Job, Ledger, Result, Store, read
from nas.ledger.notes import Note


def test_a_moved_run_is_left_alone_and_its_new_place_is_named(
    filled: Path, tmp_path: Path, job: Callable[..., Job], network: Callable[[int], morphs.Network]
) -> None:
    there = tmp_path / "there"
    with Ledger.open(filled) as ledger:
        filled.rename(there)
        for write in (
            lambda: ledger.ask(job(9, 9)),
            lambda: ledger.note(Note.WALL, 5.0),
            lambda: ledger.fail(3, "no"),
        ):
            with pytest.raises(RunError, match=rf"moved to {there} .*nas resume {there}"):
                write()
        with pytest.raises(RunError, match="moved or deleted"):
            Store(filled / "checkpoints").put(network(5))
    assert not filled.exists()
    assert len(read(there).trials) == 4


def test_a_copy_in_its_place_is_not_written(filled: Path, tmp_path: Path, job: Callable[..., Job]) -> None:
    with Ledger.open(filled) as ledger:
        filled.rename(tmp_path / "there")
        shutil.copytree(tmp_path / "there", filled)
        before = (filled / "ledger.db").read_bytes()
        with pytest.raises(RunError, match="moved to"):
            ledger.ask(job(9, 9))
    assert (filled / "ledger.db").read_bytes() == before


def test_a_deleted_run_is_not_made_again(filled: Path, job: Callable[..., Job]) -> None:
    with Ledger.open(filled) as ledger:
        shutil.rmtree(filled)
        with pytest.raises(RunError, match="deleted"):
            ledger.ask(job(9, 9))
    assert not filled.exists()


def test_a_driver_whose_lock_was_removed_is_seen_and_puts_it_back(
    filled: Path, job: Callable[..., Job], result: Callable[..., Result]
) -> None:
    with Ledger.open(filled) as ledger:
        name = holder_of_lock(filled)
        assert name is not None
        for replaced in (False, True):
            (filled / "lock").unlink()
            if replaced:
                (filled / "lock").touch()
            assert "removed" in str(holder_of_lock(filled))
            with pytest.raises(RunError, match="in use"):
                Ledger.open(filled)
            (filled / "lock").unlink(missing_ok=True)
            ledger.note(Note.WALL, 5.0)
            assert holder_of_lock(filled) == name
    assert holder_of_lock(filled) is None
