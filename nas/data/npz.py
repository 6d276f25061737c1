"""`npz:FILE`: arrays of examples and targets in one file of numpy's, perhaps with the number of tokens."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np

from nas.base.errors import DataError
from nas.data import custom
from nas.data.tokens import vocabulary
from nas.data.types import Parts, one_line

EXAMPLES, TARGETS = ("x", "data", "inputs", "images", "features"), ("y", "target", "targets", "labels")
TOKENS = "tokens"
REMEDY = "call the arrays x and y, or x_train, y_train, x_test, y_test, and x_val, y_val if there are such"


def open_npz(path: str, task: str | None) -> Parts:
    """The arrays x and y, or those of each part. Nothing in the file is unpickled. Raises DataError."""
    _check_settings(path)
    try:
        with np.load(os.path.expanduser(path), allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("it is a single array")
            held: dict[str, Any] = {name.lower(): file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"npz: {path} can't be read ({one_line(error)}); save it with numpy.savez") from None
    found = {role: pair for role in ("train", "val", "test") if (pair := _pair(held, role)) is not None}
    if "train" not in found:
        whole = _pair(held, "")
        if whole is None:
            raise DataError(f"npz: {path} has the arrays {', '.join(sorted(held)) or 'none'}; {REMEDY}")
        found["train"] = whole
    parts = custom.alike({role: custom.part(found[role], f"npz: {path}: {role}", task) for role in found})
    names = custom.class_names(None, parts["train"])
    count = vocabulary(parts, held.get(TOKENS), f"npz: {path}")
    return Parts(parts["train"], parts.get("val"), parts.get("test"), names, tokens=count)


def _check_settings(path: str) -> None:
    """Raise DataError for settings behind the file's name, of which there are none."""
    file, mark, settings = path.partition("?")
    if not mark or os.path.exists(os.path.expanduser(path)):
        return
    if settings.startswith("tokens"):
        raise DataError(
            f'npz: {file}: "{settings}" is not known; write npz:FILE alone, and put the number of tokens into the file '
            f"as an array called {TOKENS}"
        )
    raise DataError(f'npz: {file}: "{settings}" is not known; write npz:FILE alone')


def _pair(held: dict[str, Any], role: str) -> tuple[Any, Any] | None:
    """The arrays of one part, by any of their usual names."""

    def named(stems: tuple[str, ...]) -> Any:
        places = [
            name for stem in stems for name in ((f"{stem}_{role}", f"{role}_{stem}") if role else (stem,))
        ]
        return next((held[name] for name in places if name in held), None)

    x, y = named(EXAMPLES), named(TARGETS)
    return None if x is None or y is None else (x, y)
