"""`imagefolder:PATH`: one folder of images per class, streamed.

Either PATH/train/CLASS/*, optionally with val/ (or valid/) and test/ beside train/, or PATH/CLASS/*.
Missing parts are held out of the training images: the test split with a constant seed, the validation
split with the run's seed.

`imagefolder:PATH?size=N` sets the image size to N x N. Without it, images keep their size if all have the same
and it is at most 256; otherwise the size is 64 x 64. Images of another size are scaled and cropped at the centre.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nas.base.errors import DataError
from nas.data.hashes import Known, columns, hash_of, hashed, row, rows, stamp_of
from nas.data.types import ImageSplit, Parts, StreamSplit, one_line

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
LOOKED_AT = 2048  # image headers read to choose size and channels
LARGEST_OWN_SIZE, COMMON_SIZE = 256, 64
_VAL_NAMES = ("val", "valid", "validation")


@dataclass(frozen=True)
class ImageFiles:
    """Map-style data set of (uint8 [C, H, W], label) that refers to its own files only.

    stamps, hashes: of the files' contents (`nas.data.hashes.columns`), if they are to stay what they were.
    """

    files: tuple[str, ...]
    labels: Tensor
    sizes: tuple[int, ...]
    shape: tuple[int, int, int]
    stamps: Tensor | None = None
    hashes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        c, h, w = self.shape
        self._check_same(index)
        try:
            with Image.open(self.files[index]) as image:
                image.draft("L" if c == 1 else "RGB", (2 * w, 2 * h))  # a JPEG need not be decoded in full
                image = _eight_bits(image).convert("L" if c == 1 else "RGB")
                image = (
                    image if image.size == (w, h) else ImageOps.fit(image, (w, h), Image.Resampling.BILINEAR)
                )
                pixels = np.array(image, dtype=np.uint8).reshape(h, w, c)
        except Exception as error:
            raise _unreadable(self.files[index], error) from error
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


def open_folder(argument: str) -> Parts:
    """Open PATH or PATH?size=N.

    Raises DataError: no such folder, no classes, an empty class, an unreadable image, an unknown class.
    """
    match = re.fullmatch(r"(?s)(.*?)(?:\?size=(\d+))?", argument)
    assert match is not None
    path = Path(os.path.expanduser(match[1]))
    size = int(match[2]) if match[2] else None
    if size is not None and not 1 <= size <= 4096:
        raise DataError(f"imagefolder: size={size} is out of range; use 1 … 4096")
    if not match[1] or not path.is_dir():
        raise DataError(
            f"imagefolder: no folder {match[1] or '(empty path)'}; use imagefolder:PATH with an existing PATH"
        )
    top = path / "train" if (path / "train").is_dir() else path
    classes = tuple(sorted(_folders(top)))
    if len(classes) < 2:
        raise DataError(
            f"imagefolder: {top} has {len(classes)} class folders; "
            "put each class into its own folder, at least two"
        )
    listed = _list(top, classes)
    shape = _common_shape(listed[0], size)
    train = _split(listed, shape, "imagefolder")
    shown = tuple(
        os.fsencode(name).decode(errors="backslashreplace") for name in classes
    )  # perhaps not UTF-8
    if top == path:
        return Parts(train, None, None, shown)
    val = next((path / name for name in _VAL_NAMES if (path / name).is_dir()), None)
    test = path / "test" if (path / "test").is_dir() else None
    return Parts(
        train,
        _split(_list(val, classes), shape, "imagefolder") if val else None,
        _split(_list(test, classes), shape, "imagefolder") if test else None,
        shown,
    )


def own_files(split: StreamSplit) -> StreamSplit:
    """Return the same split with a list of only its own files, so that it does not lead to another split's."""
    items = split.items
    if not isinstance(items, ImageFiles):
        return split
    chosen: list[int] = split.indices.tolist()
    listed = [items.files[i] for i in chosen], split.labels.tolist(), [items.sizes[i] for i in chosen]
    return replace(_split(listed, items.shape, split.name), workers=split.workers)


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


_Listed = tuple[list[str], list[int], list[int]]  # files, labels, sizes in bytes


def _folders(top: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(top) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"imagefolder: {top} cannot be read ({error.strerror}); make it readable") from error


def _list(top: Path, classes: tuple[str, ...]) -> _Listed:
    if unknown := sorted(set(_folders(top)) - set(classes)):
        raise DataError(
            f"imagefolder: {top} has class {unknown[0]}, which is not in the training part; remove or rename it"
        )
    files, labels, sizes = list[str](), list[int](), list[int]()
    for label, name in enumerate(classes):
        before = len(files)
        for folder, inner, names in os.walk(top / name):
            inner.sort()
            for image in sorted(names):
                if os.path.splitext(image)[1].lower() in SUFFIXES and not image.startswith("."):
                    files.append(os.path.join(folder, image))
                    labels.append(label)
                    sizes.append(_size_in_bytes(files[-1]))
        if len(files) == before and (top / name).is_dir():
            raise DataError(f"imagefolder: {top / name} contains no images; add images or remove the folder")
    return files, labels, sizes


def _size_in_bytes(file: str) -> int:
    try:
        size = os.stat(file).st_size
    except OSError as error:
        raise _unreadable(file, error) from error
    if size == 0:
        raise _unreadable(file, ValueError("the file is empty"))
    return size


def _common_shape(files: list[str], size: int | None) -> tuple[int, int, int]:
    seen, grey = set[tuple[int, int]](), True
    for position in np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT)).round().astype(int):
        try:
            with Image.open(files[position]) as image:
                seen.add(image.size)
                grey = grey and (image.mode in ("1", "L") or image.mode.startswith("I;16"))
        except Exception as error:
            raise _unreadable(files[position], error) from error
    c = 1 if grey else 3
    if size is not None:
        return c, size, size
    w, h = next(iter(seen))
    if len(seen) == 1 and max(w, h) <= LARGEST_OWN_SIZE:
        return c, h, w
    return c, COMMON_SIZE, COMMON_SIZE


def _split(listed: _Listed, shape: tuple[int, int, int], name: str) -> StreamSplit:
    files, labels, sizes = listed
    numbers = torch.tensor(labels, dtype=torch.int64)
    items = ImageFiles(tuple(files), numbers, tuple(sizes), shape)
    return StreamSplit(items, torch.arange(len(files)), numbers, shape, name)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey images to 8 bits; Pillow's own conversion would clip them at 255."""
    if image.mode.startswith("I;16"):
        deep: Any = np.asarray(image)
        return Image.fromarray((deep >> 8).astype(np.uint8))
    return image


def _unreadable(file: str, error: Exception) -> DataError:
    return DataError(
        f"imagefolder: image {file} cannot be read ({one_line(error)}); "
        "restore it from a copy, or remove it and start a new search"
    )
