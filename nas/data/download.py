"""Downloads of published files, with timeouts and MD5 checks; a file is moved into place only when complete."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import queue
import shutil
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from nas.base.printing import console
from nas.data.types import one_line
from nas.ledger.leftovers import temporary_folder

ANSWER_SECONDS = 4.0  # time limit for the first answer of any mirror
STALL_SECONDS = 10.0  # a transfer without data for this long has failed
_FAILURES = (OSError, http.client.HTTPException, ValueError, EOFError, zlib.error, tarfile.TarError)


class DownloadError(Exception):
    """No mirror answered, or the download was incomplete; the message is only the reason, on one line."""


@dataclass(frozen=True)
class Remote:
    """One published file: its URLs (mirrors in order of preference), name and MD5.

    members: pairs of a name inside a .tar.gz and its path under the data root; any other file (plain, or .gz,
             which is unpacked) has one pair.
    """

    urls: tuple[str, ...]
    name: str
    md5: str
    members: tuple[tuple[str, str], ...]


def fetch(remotes: Sequence[Remote], root: Path) -> None:
    """Download the members of all remotes to `root`; existing files are left unchanged.

    Raises DownloadError, within ANSWER_SECONDS if no mirror answers. No incomplete file and no temporary folder
    is left behind, except by a kill; the next download removes it.
    """
    first = _first_to_answer(remotes[0].urls)
    existed = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with temporary_folder(".download-", root) as folder:
            staged: list[tuple[Path, Path]] = []
            for remote in remotes:
                archive = _download(remote, first, folder)
                staged += [(path, root / place) for path, place in _unpack(remote, archive)]
            for path, target in staged:
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    os.replace(path, target)
    except _FAILURES as error:
        if not existed:
            with suppress(OSError):
                root.rmdir()
        raise DownloadError(one_line(error)) from error


def _open(url: str, timeout: float) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "morph-nas"})
    # A new opener for each request: the one behind urlopen keeps the proxy settings of its first use.
    try:
        return urllib.request.build_opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise


def _first_to_answer(urls: Sequence[str]) -> int:
    """Return the position of the mirror that answers first. Uses threads, since a DNS lookup has no timeout."""
    answers: queue.SimpleQueue[tuple[int, Exception | None]] = queue.SimpleQueue()

    def ask(position: int, url: str) -> None:
        try:
            with _open(url, ANSWER_SECONDS):
                answers.put((position, None))
        except Exception as error:
            answers.put((position, error))

    for position, url in enumerate(urls):
        threading.Thread(target=ask, args=(position, url), daemon=True).start()
    deadline = time.monotonic() + ANSWER_SECONDS
    reason = f"no answer within {ANSWER_SECONDS:g} s"
    for _ in urls:
        try:
            position, error = answers.get(timeout=max(deadline - time.monotonic(), 0.01))
        except queue.Empty:
            break
        if error is None:
            return position
        reason = one_line(error)
    raise DownloadError(reason)


def _download(remote: Remote, first: int, folder: Path) -> Path:
    """Download the file into `folder` and check its MD5; the mirror at position `first` is tried first."""
    target = folder / remote.name
    first %= len(remote.urls)
    urls = (remote.urls[first], *remote.urls[:first], *remote.urls[first + 1 :])
    failure: Exception = ValueError(f"{remote.name} has no mirror")
    for url in urls:
        try:
            found = _transfer(url, target)
            if found == remote.md5:
                return target
            failure = ValueError(f"{url} returned a file with MD5 {found} instead of {remote.md5}")
        except _FAILURES as error:
            failure = error
    raise failure


def _transfer(url: str, target: Path) -> str:
    """Download `url` to `target` and return its MD5. Shows a progress bar on a terminal."""
    md5 = hashlib.md5(usedforsecurity=False)
    bar = Progress(console=console(sys.stderr), disable=not sys.stderr.isatty(), transient=True)
    with _open(url, STALL_SECONDS) as answer, target.open("wb") as file, bar:
        task = bar.add_task(target.name, total=answer.length)
        while chunk := answer.read(1 << 16):
            md5.update(chunk)
            file.write(chunk)
            bar.advance(task, len(chunk))
    return md5.hexdigest()


def _unpack(remote: Remote, archive: Path) -> list[tuple[Path, str]]:
    """Return [(unpacked file, its path under the root)]. Only named members are read: no path is taken from a tar."""
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as tar:
            unpacked: list[tuple[Path, str]] = []
            for number, (member, place) in enumerate(remote.members):
                source = tar.extractfile(tar.getmember(member)) if member in tar.getnames() else None
                if source is None:
                    raise ValueError(f"{archive.name} does not contain {member}")
                path = archive.with_name(f"{number}.part")
                with path.open("wb") as out:
                    shutil.copyfileobj(source, out)
                unpacked.append((path, place))
            return unpacked
    place = remote.members[0][1]
    if not archive.name.endswith(".gz"):
        return [(archive, place)]
    path = archive.with_suffix("")
    with gzip.open(archive) as source, path.open("wb") as out:
        shutil.copyfileobj(source, out)
    return [(path, place)]
