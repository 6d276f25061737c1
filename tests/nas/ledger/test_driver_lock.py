import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nas.base.errors import RunError
from nas.ledger.driver_lock import Lock, _dying

HOLDER = """
import sys, time
from pathlib import Path
from nas.ledger.driver_lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""

FORKING = """
import os, sys, time
from pathlib import Path
from nas.ledger.driver_lock import Lock
lock = Lock(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def start(script: str, lock: Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_second_holder_is_refused_with_the_first_one_s_name(tmp_path: Path) -> None:
    process, _ = start(HOLDER, tmp_path / "lock")
    try:
        with pytest.raises(
            RunError, match=rf"in use by process {process.pid} on \S+ since \d{{4}}-.*; wait for it"
        ):
            Lock(tmp_path / "lock")
    finally:
        kill(process)
    Lock(tmp_path / "lock").close()  # free at once after kill -9


def test_a_lock_whose_file_was_removed_is_held_all_the_same(tmp_path: Path) -> None:
    process, _ = start(HOLDER, tmp_path / "lock")
    (tmp_path / "lock").unlink()
    with pytest.raises(RunError, match=r"in use by a process whose lock was removed; wait for it or stop it"):
        Lock(tmp_path / "lock")
    kill(process)
    Lock(tmp_path / "lock").close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_killed_holder_is_told_from_one_at_work(tmp_path: Path) -> None:
    process, _ = start(HOLDER, tmp_path / "lock")
    with (tmp_path / "lock").open() as file:
        assert not _dying(file.fileno())
        process.kill()
        while not _dying(file.fileno()):  # a zombie from then on, since nobody has waited for it
            time.sleep(0.01)
        kill(process)
        assert _dying(file.fileno())


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    first = Lock(tmp_path / "lock")
    with pytest.raises(RunError, match=f"process {os.getpid()}"):
        Lock(tmp_path / "lock")
    first.close()
    first.close()
    Lock(tmp_path / "lock").close()


def test_a_forked_orphan_does_not_keep_the_lock(tmp_path: Path) -> None:
    process, child = start(FORKING, tmp_path / "lock")
    try:
        kill(process)
        Lock(tmp_path / "lock").close()
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_a_child_s_end_does_not_free_the_parent_s_lock(tmp_path: Path) -> None:
    process, child = start(FORKING, tmp_path / "lock")
    os.kill(int(child), signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(RunError, match="in use"):
        Lock(tmp_path / "lock")
    kill(process)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 10, b"[" * 4000])
def test_a_holder_without_a_name_is_another_process(tmp_path: Path, content: bytes) -> None:
    lock = Lock(tmp_path / "lock")
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(RunError, match="in use by another process; wait"):
        Lock(tmp_path / "lock")
    lock.close()


def test_a_full_disk_leaves_the_holder_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lock = Lock(tmp_path / "lock")
    with pytest.raises(RunError, match="in use by another process; wait"):
        Lock(tmp_path / "lock")
    lock.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="can't be opened"):
        Lock(tmp_path / "none" / "lock")


def _race(path: Path, start: Any, told: "multiprocessing.Queue[bool]", over: Any) -> None:
    start.wait()
    try:
        Lock(path)
    except RunError:
        told.put(False)
        return
    told.put(True)
    over.wait()  # it keeps the lock for as long as another may still try, however slow the machine is


def test_of_many_drivers_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    told: multiprocessing.Queue[bool] = context.Queue()
    start, over = context.Barrier(8), context.Event()
    racers = [context.Process(target=_race, args=(tmp_path / "lock", start, told, over)) for _ in range(8)]
    for racer in racers:
        racer.start()
    won = [told.get(timeout=120) for _ in racers]
    over.set()
    for racer in racers:
        racer.join()
    assert won.count(True) == 1
    told.close()
