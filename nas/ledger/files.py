"""Canonical JSON, reading with a size limit, and writes that survive a crash at any instant."""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.base.errors import RunError

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
    """Read a file of at most `limit` bytes. Raises OSError, and ValueError for a longer file."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return data


def temporary_name(target: Path) -> Path:
    """Return a new hidden name beside `target`; files with such names are always ignored."""
    return target.with_name(f".tmp-{target.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}")


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically: after a crash at any instant it has the old bytes or the new, never a mix.

    Raises RunError if the folder can't be written.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):  # a leftover temporary file does no harm
            temporary.unlink()
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
