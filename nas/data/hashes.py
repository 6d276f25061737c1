"""Hashes of the contents of files, kept with what the system says of each file, so that they are made once."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nas.base.errors import NasError
from nas.ledger.files import atomic_write, read_bounded

FILE = "hashes.safetensors"
MAX_BYTES = 2**30  # of that file: 16 million hashes
YOUNG = 2 * 10**9  # nanoseconds; a file may change again within the resolution of its times
CHUNK, READERS = 64, 4
Stamp = tuple[
    int, int, int, int
]  # inode, bytes, and when content and inode were changed last, in nanoseconds
Known = Mapping[Stamp, bytes]  # SHA-256
NONE: Known = MappingProxyType({})


def stamp_of(file: str) -> Stamp:
    """Return what the system says of a file. Raises OSError, and ValueError if it is not a regular file."""
    return _stamp(os.stat(file))


def hashed(files: Sequence[str], known: Known = NONE) -> list[tuple[Stamp, bytes]]:
    """Return the stamp and the SHA-256 of each file; only files that are not `known` are read.

    Raises OSError with the file's name; ValueError for a file that changes while it is read, or is not a regular one.
    """

    def one_after_another(some: Sequence[str]) -> list[tuple[Stamp, bytes]]:
        return [hash_of(file, known) for file in some]

    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor(READERS) as pool:  # reading and hashing run in parallel
        return list(chain.from_iterable(pool.map(one_after_another, chunks)))


def hash_of(file: str, known: Known = NONE) -> tuple[Stamp, bytes]:
    """As `hashed`, of one file."""
    before = stamp_of(file)
    if before in known:
        return before, known[before]
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").digest()
        if _stamp(os.fstat(opened.fileno())) != before:
            raise ValueError(f"{file} changes while it is read; wait until it is complete")
    return before, found


def _stamp(found: os.stat_result) -> Stamp:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def columns(entries: Sequence[tuple[Stamp, bytes]]) -> tuple[Tensor, Tensor]:
    """Return the stamps as int64 [N, 4] and the hashes as uint8 [N, 32], which are small and quick to copy."""
    stamps = [[_signed(number) for number in stamp] for stamp, _ in entries]
    hashes = torch.frombuffer(bytearray(b"".join(digest for _, digest in entries)), dtype=torch.uint8)
    return torch.tensor(stamps, dtype=torch.int64), hashes.view(-1, 32)


def row(stamps: Tensor, hashes: Tensor, index: int) -> tuple[Stamp, bytes]:
    """Return one entry of `columns`."""
    inode, size, modified, changed = (int(number) for number in stamps[index].tolist())
    return (inode % 2**64, size, modified, changed), bytes(hashes[index].tolist())


def rows(stamps: Tensor, hashes: Tensor) -> Iterator[tuple[Stamp, bytes]]:
    """Return all entries of `columns`."""
    digests = hashes.numpy().tobytes()
    for at, (inode, size, modified, changed) in enumerate(stamps.tolist()):
        yield (inode % 2**64, size, modified, changed), digests[32 * at : 32 * at + 32]


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number  # some file systems use all 64 bits for an inode


def read_known(run: Path) -> Known:
    """Return the hashes that are kept in a run's folder; none if there are none, or if they can't be read."""
    try:
        tensors = load(read_bounded(run / FILE, MAX_BYTES))
        stamps, hashes = tensors["stamps"], tensors["hashes"]
        if stamps.dtype != torch.int64 or stamps.shape[1:] != (4,) or hashes.shape != (len(stamps), 32):
            return NONE
        if hashes.dtype != torch.uint8:
            return NONE
    except (OSError, ValueError, KeyError, SafetensorError):
        return NONE  # made again
    return dict(rows(stamps, hashes))


def keep_known(run: Path, known: Known) -> None:
    """Keep hashes in a run's folder, except those of files that have just changed. It is not needed to go on."""
    old = [(stamp, digest) for stamp, digest in known.items() if max(stamp[2:]) < time.time_ns() - YOUNG]
    if old:
        stamps, hashes = columns(old)
        with suppress(NasError):
            atomic_write(run / FILE, save({"stamps": stamps, "hashes": hashes}))
