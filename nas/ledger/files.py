"""Canonical JSON, bounded reading, and writing that survives a crash at any instant."""

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
    """JSON with sorted keys and no spaces: equal documents give equal bytes.

    Raises ValueError for NaN, infinities and cycles, TypeError for what JSON has no word for.
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; the file is never held in memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(text: str | bytes) -> Any:
    """The document of a JSON text. Raises ValueError for anything that is none, NaN and deep nesting included."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes. Raises OSError, and ValueError for a longer file."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return data


def temporary_name(target: Path) -> Path:
    """A fresh hidden name beside `target`; what lies under such a name never counts."""
    return target.with_name(f".tmp-{target.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}")


def atomic_write(path: Path, data: bytes) -> None:
    """Put `data` under `path`: after a crash at any instant the old bytes or the new ones are there, never a mix.

    Raises RunError when the folder can't be written.
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
        with suppress(OSError):  # what can't be removed either does no harm
            temporary.unlink()
        raise RunError(
            f"{path} can't be written ({error.strerror}); free space or choose another folder"
        ) from None


def fsync_file(path: Path) -> None:
    """Make the bytes of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can do that for a folder (Windows can't)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
