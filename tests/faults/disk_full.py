"""A disk that is full or fails: is the old state intact, the error clear, and does the run go on once there is space?

    space     a small run (real ledger, store, SQLite) on a tmpfs with 0, 4, 8, … KiB left, from nothing and from
              its middle, until it fits. Needs root, to mount; skipped otherwise
    errno     single system calls on the run's files fail with ENOSPC and with EIO (ptrace; x86_64 alone): each call
              that reads, writes, syncs, truncates, opens, renames, removes or lists, or every so many-th
    command   `nas resume` of a real search on a full tmpfs: exit code 2 and one line; it ends once space is made

After each: RunError in one line or success, never a traceback; then all that was claimed is there, and the run resumed
with space ends with the undisturbed digest.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from faults.cases import Case, in_memory
from faults.small_run import CLAIMS, RUN, checkpoints_lost, claims, drive, lost, quiet
from faults.traced import fail_at

from nas.base.errors import RunError
from nas.ledger import LedgerView, read

TRIALS, STOP_AFTER = 4, 2
PAGE = 4096
REFUSED, WRONG = 3, 4  # exit codes of a driver: RunError in one line, anything else


@dataclass
class Bench:
    """A small run left in its middle, and what it comes to undisturbed."""

    folder: Path
    expected: LedgerView

    @classmethod
    def make(cls, folder: Path) -> Bench:
        """Both, in `folder`."""
        quiet()
        for name in ("whole", "middle", "nothing"):
            (folder / name).mkdir()
        drive(folder / "middle", TRIALS, STOP_AFTER)
        return cls(folder, drive(folder / "whole", TRIALS))

    def broken(self, root: Path) -> str | None:
        """What doesn't hold of the run in `root` as it lies there, and resumed with space."""
        claimed, run = claims(root), root / RUN
        try:
            if (run / "ledger.db").exists():
                view = read(run)
                keys = claimed - {"opened"}
                if gone := lost(view, keys, self.expected) + checkpoints_lost(run, view, keys):
                    return f"lost: {gone}"
            elif claimed:
                return "the run is gone"
            found = drive(root, TRIALS, claim=lambda _: None).digest
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None if found == self.expected.digest else "another digest"


def driven(root: Path, log: Path) -> int:
    """Drive the run in `root`, claims kept in `log` on another disk; 0, or how it ended."""

    def claim(line: str) -> None:
        with log.open("a") as file:
            file.write(line + "\n")

    try:
        drive(root, TRIALS, claim=claim)
    except RunError as error:
        text = str(error)
        return REFUSED if "\n" not in text and ";" in text else _say(text)
    except Exception as error:
        return _say(f"{type(error).__name__}: {error}")
    return 0


def _say(text: str) -> int:
    print(f"    {text}", flush=True)
    return WRONG


def space_cases(bench: Bench) -> Iterator[Case]:
    """From nothing and from the middle, with more space each time until it suffices."""
    for begin in ("nothing", "middle"):
        fits = [False]
        for pages in count():
            if fits[0]:
                break
            yield partial(_with_space, bench, begin, pages, fits)


def _with_space(bench: Bench, begin: str, pages: int, fits: list[bool]) -> str | None:
    with small_disk(bench.folder / "disk", 8 * 2**20) as disk:
        root = disk / "root"
        shutil.copytree(bench.folder / begin, root)
        log = bench.folder / "log"
        log.write_bytes((root / CLAIMS).read_bytes() if (root / CLAIMS).exists() else b"")
        filler = fill(disk, pages * PAGE)
        code = driven(root, log)
        fits[0] = code == 0
        filler.unlink()
        shutil.copy(log, root / CLAIMS)
        where = f"{begin}, {pages} pages: "
        if code == WRONG:
            return where + "an unclear error"
        fault = bench.broken(root)
        return None if fault is None else where + fault


@contextmanager
def small_disk(folder: Path, size: int) -> Generator[Path]:
    """A file system of `size` bytes."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True
    )
    try:
        yield folder
    finally:
        for last in (
            *[False] * 50,
            True,
        ):  # whoever looks at all mounts, as an indexer does, keeps it busy for a moment
            if not subprocess.run(["umount", str(folder)], check=last, capture_output=True).returncode:
                break
            time.sleep(0.2)
        folder.rmdir()


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    try:
        with in_memory("mount-") as folder, small_disk(folder / "disk", 2**20):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def fill(disk: Path, left: int) -> Path:
    """A file that leaves `left` bytes of the disk."""
    status, filler = os.statvfs(disk), disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(PAGE, status.f_bavail * status.f_frsize - left))
    return filler


def errno_cases(bench: Bench) -> Iterator[Case]:
    """Each call in turn, until the driver makes no more."""
    for begin in ("nothing", "middle"):
        for error in (errno.ENOSPC, errno.EIO):
            more = [True]
            for call in count():
                if not more[0]:
                    break
                yield partial(_with_error, bench, begin, call, error, more)


def _with_error(bench: Bench, begin: str, call: int, error: int, more: list[bool]) -> str | None:
    root, log = bench.folder / "errno", bench.folder / "log"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(bench.folder / begin, root)
    log.write_bytes((root / CLAIMS).read_bytes() if (root / CLAIMS).exists() else b"")
    noise = bench.folder / "noise"

    def work() -> None:
        os.dup2(os.open(noise, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os._exit(driven(root, log))

    code, path = fail_at(work, root, call, error)
    if code is None:
        more[0] = False
        return None
    where = f"{errno.errorcode[error]} on {path}, call {call} from {begin}: "
    if code not in (0, REFUSED):
        return where + f"an unclear error (exit code {code})"
    if noise.stat().st_size:
        return where + f"more than one line: {noise.read_text()[:200]}"
    shutil.copy(log, root / CLAIMS)
    fault = bench.broken(root)
    return None if fault is None else where + fault


def command_cases(bench: Bench) -> Iterator[Case]:
    """The command on a full disk."""
    import faults.damaged_commands as commands

    template = commands.interrupted_search(bench.folder / "search")
    for pages in (0, 5, 40):
        yield partial(_command, bench, template, pages)


def _command(bench: Bench, template: Path, pages: int) -> str | None:
    from faults.damaged_commands import command

    with small_disk(bench.folder / "disk", 8 * 2**20) as disk:
        run = disk / "run"
        shutil.copytree(template, run)
        before = read(run)
        filler = fill(disk, pages * PAGE)
        code, said = command(bench.folder, ["resume", str(run), "--quiet"])
        ended = code == 0 and read(run).final is not None  # all but the report fitted, which is said
        if (code != 2 and not ended) or len(said.splitlines()) != 1 or "space" not in said:
            return f"{pages} pages: exit code {code}: {said[-400:]}"
        filler.unlink()
        now = {record.key: record for record in read(run).complete}
        if any(now.get(record.key) != record for record in before.complete):
            return f"{pages} pages: something told was lost"
        code, said = command(bench.folder, ["resume", str(run), "--quiet"])
        return None if code == 0 and read(run).final else f"{pages} pages, then space: {code}: {said[-400:]}"


PARTS: Mapping[str, Callable[[Bench], Iterator[Case]]] = {
    "space": space_cases,
    "errno": errno_cases,
    "command": command_cases,
}
