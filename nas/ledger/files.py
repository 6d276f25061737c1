"""Canonical JSON, reading with a size limit, and writes that survive a crash at any instant."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from nas.base.errors import RunError
from nas.ledger.leftovers import temporary_file
from nas.ledger.run_files import open_file

MAX_CONFIG_BYTES = 4 * 2**20
MAX_ATTRIBUTE_BYTES = 32 * 2**20


def canonical_json(document: object) -> str:
    """Return JSON with sorted keys and no spaces: equal documents give equal bytes.

    Raises ValueError for NaN, infinities and cycles, TypeError for values that JSON can't represent.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal, without loading the whole file into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text. Raises ValueError for invalid JSON, for NaN and for nesting that is too deep."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a plain file of a run with at most `limit` bytes.

    Raises OSError, ValueError for a longer file, and RunError for what is not a plain file.
    """
    with open(open_file(path), "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return data


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: after a crash at any instant it has the old bytes or the new, never a mix.

    Raises RunError if the folder can't be written.
    """
    try:
        with temporary_file(path, data) as temporary:
            temporary.replace(path)
            fsync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path} can't be written ({error.strerror}); free space or choose another folder"
        ) from None


def fsync_file(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, durable."""
    # Windows makes only a file durable that is open for writing, and has no folders to open.
    descriptor = os.open(path, os.O_RDONLY if hasattr(os, "O_DIRECTORY") else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can do that for a folder (Windows can't)."""
    if hasattr(os, "O_DIRECTORY"):
        fsync_file(folder)
