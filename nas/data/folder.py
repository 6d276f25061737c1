"""`imagefolder:PATH`: one folder of images per class, streamed.

Either PATH/train/CLASS/*, optionally with val/ and test/ beside train/, or PATH/CLASS/* (`nas.data.layout`, which knows
other names too). Missing parts are held out of the training images: the test split with a constant seed, the validation
split with the run's seed.

`imagefolder:PATH?size=N` or `?size=HxW` sets the image size, `?fit=crop|pad|stretch` how other sizes are brought to it,
`?range=LOW..HIGH` the values of 16-bit and float pictures that are black and white; several are joined by &.
`nas.data.survey` chooses what is not set.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from nas.base.errors import DataError
from nas.base.text import percent
from nas.data.check import Check, check_items, refuse
from nas.data.hashes import Known, columns, hash_of, hashed, row, rows, stamp_of
from nas.data.layout import Layout, find_layout
from nas.data.listing import Listed, PassedOver, list_pictures, within
from nas.data.picture import Reading, describe, read_picture
from nas.data.survey import Asked, Survey, share_cut, survey
from nas.data.types import ImageSplit, Parts, StreamSplit, one_line
from nas.ledger.files import wellformed

MOST_SIDE = 4096
_FITS = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class ImageFiles:
    """Map-style data set of (uint8 [C, H, W], label) that refers to its own files only.

    stamps, hashes: of the files' contents (`nas.data.hashes.columns`), if they are to stay what they were.
    """

    files: tuple[str, ...]
    labels: Tensor
    sizes: tuple[int, ...]
    reading: Reading
    stamps: Tensor | None = None
    hashes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        self._check_same(index)
        try:
            pixels = read_picture(self.files[index], self.reading)
        except Exception as error:
            raise DataError(
                f"imagefolder: image {self.files[index]} cannot be read ({one_line(error)}); "
                "restore it from a copy, or remove it and start a new search"
            ) from error
        return torch.from_numpy(pixels).permute(2, 0, 1), int(self.labels[index])

    def _check_same(self, index: int) -> None:
        """Raise DataError if a file is not what it was when it was hashed."""
        if self.stamps is None or self.hashes is None:
            return
        file = self.files[index]
        stamp, digest = row(self.stamps, self.hashes, index)
        try:
            same = stamp_of(file) == stamp or hash_of(file)[1] == digest
        except (OSError, ValueError) as error:
            raise DataError(
                f"imagefolder: image {file} can't be read any more ({one_line(error)}); restore it from a copy"
            ) from error
        if not same:
            raise DataError(
                f"imagefolder: image {file} was changed while a search used it; restore the original from a copy"
            )

    def fingerprint(self, indices: Tensor) -> str:
        """Return a SHA-256 of the chosen files' names (class folder and file) and contents."""
        if self.stamps is None or self.hashes is None:
            return self.former_fingerprint(indices)
        sha, digests = hashlib.sha256(), self.hashes.numpy().tobytes()
        for index in indices.tolist():
            name = os.fsencode(os.sep.join(Path(self.files[index]).parts[-2:]))
            sha.update(len(name).to_bytes(8, "big") + name + digests[32 * index : 32 * index + 32])
        return sha.hexdigest()

    def former_fingerprint(self, indices: Tensor) -> str:
        """Return a SHA-256 of the chosen files' names (class folder and file) and sizes in bytes."""
        chosen = [(os.sep.join(Path(self.files[i]).parts[-2:]), self.sizes[i]) for i in indices.tolist()]
        return hashlib.sha256(repr(chosen).encode()).hexdigest()


def open_folder(argument: str, check: Check = "none") -> Parts:
    """Open PATH or PATH?size=….

    check: whether every picture is decoded once. Raises DataError: no such folder, no classes, an empty class, an
    unknown class, what looks like splits but can't be told apart; pictures that can't be read, all by name.
    """
    path, asked = parse(argument)
    passed = PassedOver()
    layout = find_layout(path, passed)
    listed = {role: list_pictures(top, layout.classes, passed) for role, top in layout.splits.items()}
    if not listed["train"].files:
        _refuse_bad(layout, listed, {})
    seen = survey(listed["train"].files, asked)
    found = _check(layout, listed, seen, check)
    parts = {role: _split(found, seen.reading) for role, found in listed.items()}
    notes = _notes(layout, seen, passed, asked, found)
    classes = tuple(map(_shown, layout.classes))
    return Parts(parts["train"], parts.get("val"), parts.get("test"), classes, seen.reading, notes)


def own_files(split: StreamSplit) -> StreamSplit:
    """Return the same split with a list of only its own files, so that it does not lead to another split's."""
    items = split.items
    if not isinstance(items, ImageFiles):
        return split
    chosen: list[int] = split.indices.tolist()
    listed = Listed(
        tuple(items.files[i] for i in chosen),
        tuple(cast(list[int], split.labels.tolist())),
        tuple(items.sizes[i] for i in chosen),
        {},
    )
    return replace(_split(listed, items.reading), workers=split.workers)


def _split(listed: Listed, reading: Reading) -> StreamSplit:
    numbers = torch.tensor(listed.labels, dtype=torch.int64)
    items = ImageFiles(listed.files, numbers, listed.sizes, reading)
    shape = reading.channels, reading.height, reading.width
    return StreamSplit(items, torch.arange(len(listed.files)), numbers, shape, "imagefolder")


def with_hashes(split: ImageSplit, known: Known) -> ImageSplit:
    """Return the same split, whose files are hashed, so that a change is noticed. Raises DataError.

    A split that is in memory, or a Dataset, is returned as it is.
    """
    if not isinstance(split, StreamSplit) or not isinstance(split.items, ImageFiles):
        return split
    try:
        stamps, hashes = columns(hashed(split.items.files, known))
    except (OSError, ValueError) as error:
        raise DataError(
            f"imagefolder: {one_line(error)}; make every image a file that can be read"
        ) from error
    return replace(split, items=replace(split.items, stamps=stamps, hashes=hashes))


def hashes_of(*splits: ImageSplit) -> Known:
    """Return the hashes of all files of these splits."""
    found = [split.items for split in splits if isinstance(split, StreamSplit)]
    return {
        stamp: digest
        for items in found
        if isinstance(items, ImageFiles) and items.stamps is not None and items.hashes is not None
        for stamp, digest in rows(items.stamps, items.hashes)
    }


# -- what the user asks for --------------------------------------------------------------------------


def parse(argument: str) -> tuple[Path, Asked]:
    """PATH and the settings behind it. Raises DataError."""
    match = re.fullmatch(r"(?s)(.*?)((?:[?&](?:size|fit|range)=[^?&/]*)*)", argument)
    assert match is not None
    path = Path(os.path.expanduser(match[1]))
    asked = Asked()
    for name, value in re.findall(r"[?&](\w+)=([^?&]*)", match[2]):
        asked = replace(asked, **{name: _setting(name, value)})
    if not match[1] or not path.is_dir():
        raise DataError(
            f"imagefolder: no folder {match[1] or '(empty path)'}; use imagefolder:PATH with an existing PATH"
        )
    return path, asked


def _setting(name: str, value: str) -> object:
    if name == "size":
        sides = re.fullmatch(r"(\d{1,9})(?:[x×](\d{1,9}))?", value)
        size = (int(sides[1]), int(sides[2] or sides[1])) if sides else (0, 0)
        if not all(1 <= side <= MOST_SIDE for side in size):
            raise DataError(
                f"imagefolder: size={value} is not a size; use N or HEIGHTxWIDTH, 1 … {MOST_SIDE}"
            )
        return size
    if name == "fit":
        if value not in _FITS:
            raise DataError(f"imagefolder: fit={value} is not known; use one of {', '.join(_FITS)}")
        return value
    number = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
    ends = re.fullmatch(rf"({number})\.\.({number})", value)
    if ends is None or not float(ends[1]) < float(ends[2]):
        raise DataError(f"imagefolder: range={value} is not a range; use LOW..HIGH, like 0..4095")
    return float(ends[1]), float(ends[2])


# -- what is checked and said ------------------------------------------------------------------------


def _check(layout: Layout, listed: dict[str, Listed], seen: Survey, check: Check) -> tuple[str, ...]:
    """Read all pictures, or a sample; return what is to be said. Raises DataError, which names all bad files."""
    order = [role for role in ("test", "val", "train") if role in listed]
    files = [file for role in order for file in listed[role].files]
    blank = list[str]()

    def read(index: int) -> None:
        pixels = read_picture(files[index], seen.reading)
        if np.ptp(pixels) == 0:
            blank.append(within(files[index], layout.top))

    checked = check_items(files, read, check)
    _refuse_bad(layout, listed, {**seen.bad, **checked.bad})
    said = [f"checked {checked.skipped}; --check-data all checks every one"] if checked.skipped else []
    if blank:
        said.append(
            f"pictures of one colour: {len(blank)}, such as {min(blank)}; look whether they show anything"
        )
    return tuple(said)


def _refuse_bad(layout: Layout, listed: dict[str, Listed], found: dict[str, str]) -> None:
    unread = {file: reason for split in listed.values() for file, reason in split.bad.items()}
    bad = {within(file, layout.top): reason for file, reason in {**found, **unread}.items()}
    total = sum(len(split.files) for split in listed.values()) + len(unread)
    refuse(f"imagefolder: {layout.top}", bad, total)


def _notes(
    layout: Layout, seen: Survey, passed: PassedOver, asked: Asked, found: tuple[str, ...]
) -> tuple[str, ...]:
    notes = [f"each picture is {describe(seen.reading)}", _sizes(seen, asked), *found]
    if text := passed.text(layout.top):
        notes.append(f"passed over: {text}")
    return tuple(map(wellformed, notes))


def _sizes(seen: Survey, asked: Asked) -> str:
    """The pictures' own sizes, and what becomes of their edges."""
    reading, areas = seen.reading, sorted(set(seen.sizes), key=lambda size: size[0] * size[1])
    spread = " to ".join(f"{h} × {w}" for w, h in dict.fromkeys((areas[0], areas[-1])))
    said = f"the pictures are {spread} (height × width)"
    if areas == [(reading.width, reading.height)]:
        return f"{said} and keep their size"
    cut = share_cut(seen.sizes, reading) if reading.fit == "crop" else 0.0
    lost = f", which cuts off {percent(cut, 0)} of one on average" if cut >= 0.005 else ""
    how = "" if asked.size else "; another size: ?size=HxW"
    return f"{said} and become {reading.height} × {reading.width}{lost}{how}"


def _shown(name: str) -> str:
    """The name of a class folder, which may not be UTF-8; the same in every locale."""
    return os.fsencode(name).decode(errors="backslashreplace")
