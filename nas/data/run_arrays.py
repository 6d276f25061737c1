"""Arrays that were given in Python: checked, and kept with the run as RUN/data.safetensors.

So workers, `nas resume` and `nas replay` find them. Nothing is pickled: pixels are uint8, other inputs and targets
numbers, and the run's configuration names the data set by a hash of all of it, `arrays:HASH`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas.base.errors import DataError, RunError
from nas.base.text import size
from nas.data.custom import alike, class_names, part
from nas.data.splits import check_labels
from nas.data.tokens import vocabulary
from nas.data.types import ImageSplit, Split, StreamSplit, ValueSplit
from nas.ledger.files import fsync_file, fsync_folder
from nas.ledger.leftovers import temporary_name
from nas.ledger.run_files import is_file

FILE = "data.safetensors"
PREFIX = "arrays:"
MAX_BYTES = 4 * 10**9  # of examples
CHUNK = 256  # images of a Dataset that are read at once
ROLES = ("train", "val", "test")
REMEDY = "name a function that returns the data: data='package.module:function'"


Held = Split | ValueSplit


@dataclass(frozen=True, eq=False)
class KeptParts:
    """Splits in memory, checked. Where `val` or `test` is None it is held out of `train` when it is needed."""

    train: Held
    val: Held | None
    test: Held | None
    classes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Held]:
        """The splits that are there, by their role."""
        found = zip(ROLES, (self.train, self.val, self.test), strict=True)
        return {role: split for role, split in found if split is not None}

    @cached_property
    def name(self) -> str:
        """What a configuration calls them: by a hash of their content."""
        sha = hashlib.sha256(json.dumps(self.classes).encode())
        for role, split in self.parts.items():
            kind, values = _tensor(split)
            sha.update(f"{role} {'' if kind == 'pixels' else kind}{tuple(values.shape)}".encode())
            sha.update(split.labels.contiguous().numpy().data)
            sha.update(values.contiguous().numpy().data)
        return PREFIX + sha.hexdigest()[:16]

    @property
    def images(self) -> int:
        """How many there are in all."""
        return sum(len(split) for split in self.parts.values())

    @property
    def tokens(self) -> int | None:
        """How many tokens there are, where the examples are tokens. Raises DataError for parts unlike each other."""
        return vocabulary(self.parts, None, "data")


def _tensor(split: Held) -> tuple[str, Tensor]:
    """What the tensor of its examples is called in the file, and the tensor."""
    return ("inputs", split.inputs) if isinstance(split, ValueSplit) else ("pixels", split.pixels)


def parts_of(given: Any, task: str | None = None) -> KeptParts:
    """What a user gave as `data=`, in memory and checked, with targets as `task` takes them.

    given: (examples, targets) or a Dataset, to be split; (train, val) or (train, val, test), each of them such a pair
    of arrays or a map-style Dataset, which is read once. Raises DataError: for what `nas.data.custom` refuses, for a
    Dataset whose images are not the same each time, for more than MAX_BYTES.
    """
    if hasattr(given, "__array__"):
        raise DataError(f"data: {type(given).__name__} has no labels; give a pair (images, labels)")
    if not isinstance(given, (tuple, list)) or not all(_is_part(value) for value in cast("list[Any]", given)):
        values: list[Any] = [given]
    else:
        values = list(cast("list[Any]", given))
    if not 1 <= len(values) <= len(ROLES):
        fact = f"data: {len(values)} parts were given"
        raise DataError(f"{fact}; give (images, labels), (train, val) or (train, val, test)")
    roles = zip(ROLES, values, strict=False)
    parts = alike({role: _in_memory(part(value, f"data: {role}", task), role) for role, value in roles})
    found = list(parts.values())
    used = sum(_tensor(split)[1].nbytes for split in found)
    if used > MAX_BYTES:
        raise DataError(f"data: {size(used)} of images are more than a run keeps; {REMEDY}")
    val, test = ([*found[1:], None, None])[:2]
    classes = class_names(values[0], found[0])
    for role, split in zip(ROLES, found, strict=False):
        check_labels(found[0], split, len(classes), f"data: {role}")
    kept = KeptParts(found[0], val, test, classes)
    vocabulary(kept.parts, None, "data")
    return kept


def _is_part(value: Any) -> bool:
    """Whether a value is a split by itself, not an array or a list of numbers that is half of one."""
    if isinstance(value, (tuple, list)):
        return len(cast("list[Any]", value)) == 2 and all(
            hasattr(half, "__len__") for half in cast("list[Any]", value)
        )
    return hasattr(value, "__getitem__") and not hasattr(value, "__array__")


def _in_memory(split: ImageSplit, role: str) -> Held:
    """A streamed split's images, read once."""
    if not isinstance(split, StreamSplit):
        return split
    c, h, w = split.shape
    count = len(split)
    if count * c * h * w > MAX_BYTES:
        raise DataError(
            f"data: {role}: {size(count * c * h * w)} of images are more than a run keeps; {REMEDY}"
        )
    pixels = torch.empty((count, h, w, c), dtype=torch.uint8)
    for start in range(0, count, CHUNK):
        stop = min(count, start + CHUNK)
        pixels[start:stop] = split.read(range(start, stop))
    return Split.of_pixels(pixels, split.labels)


def write_kept(folder: Path, kept: KeptParts) -> Path:
    """Write FOLDER/data.safetensors, whole or not at all; its path. Raises RunError."""
    path = folder / FILE
    temporary = temporary_name(path)
    tensors = {
        f"{role}.{kind}": value for role, part in kept.parts.items() for kind, value in [_tensor(part)]
    }
    tensors |= {f"{role}.labels": split.labels.contiguous() for role, split in kept.parts.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, {"classes": json.dumps(kept.classes)})
        fsync_file(temporary)
        temporary.replace(path)
        fsync_folder(folder)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink()
        raise RunError(f"{path} can't be written ({error}); free space or choose another folder") from None
    return path


def read_kept(folder: Path, name: str) -> KeptParts:
    """The data set `name` out of FOLDER/data.safetensors. Raises DataError where it is not there or not that, RunError
    where it is a link.
    """
    path = folder / FILE
    is_file(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            classes: Any = json.loads(file.metadata()["classes"])
        train, val, test = (_split(tensors, role) for role in ROLES)
        if train is None:
            raise ValueError("it has no training images")
        found = KeptParts(train, val, test, tuple(map(str, classes)))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{name}: {path} can't be read ({error}); restore it from a copy") from None
    if found.name != name:
        raise DataError(f"{name}: {path} holds {found.name}; restore it from a copy")
    return found


def _split(tensors: Mapping[str, Tensor], role: str) -> Held | None:
    if f"{role}.inputs" in tensors:
        return ValueSplit(tensors[f"{role}.inputs"], tensors[f"{role}.labels"])
    if f"{role}.pixels" in tensors:
        return Split.of_pixels(tensors[f"{role}.pixels"], tensors[f"{role}.labels"])
    return None
