"""Canonical JSON, reading with a size limit, and writes that survive a crash at any instant."""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from nas.base.errors import RunError
from nas.ledger.leftovers import temporary_file
from nas.ledger.run_files import open_file

MAX_CONFIG_BYTES = 4 * 2**20
MAX_ATTRIBUTE_BYTES = 32 * 2**20
MAX_DEPTH = 100  # of lists and objects within each other, so that recursive readers are safe
TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


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
    """Parse a JSON text. Raises ValueError for invalid JSON, for numbers that are not finite, and for deep nesting."""
    try:
        document: Any = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    check_depth(document)
    return document


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word[:40]} is not a finite number")
    return number


def check_depth(value: object, left: int = MAX_DEPTH) -> None:
    """Raise ValueError if lists and objects are nested more than `left` deep."""
    if isinstance(value, (dict, list)):
        if left == 0:
            raise ValueError(TOO_DEEP)
        inner = cast("dict[str, object]", value).values() if isinstance(value, dict) else value
        for each in cast("Iterable[object]", inner):
            check_depth(each, left - 1)


def wellformed(value: Any) -> Any:
    """A JSON value without lone surrogates, which no UTF-8 text can hold: each becomes its escape, as \\udce9.

    They stand for the bytes of a file's name that is not UTF-8.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return {wellformed(name): wellformed(inner) for name, inner in entries.items()}
    return [wellformed(inner) for inner in cast("list[Any]", value)] if isinstance(value, list) else value


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
