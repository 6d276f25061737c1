"""The values of this package. Legend: N images, C channels, H height, W width, B batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from nas.base.errors import DataError
from nas.data.convert import item_image, item_label


@dataclass(frozen=True)
class Augment:
    """Training-time augmentation of whole batches.

    flip: mirror each image left to right with probability 1/2.
    crop: shift each image by up to this many pixels both ways, borders filled by reflection; 0 = none.
    """

    flip: bool
    crop: int

    @staticmethod
    def parse(text: str) -> Augment:
        """Return the augmentation of a text: "flip", "crop=4", "flip,crop=4" or "none"."""
        crop = text.removeprefix("flip,").removeprefix("crop=")
        return Augment(flip=text.startswith("flip"), crop=int(crop) if crop.isdigit() else 0)


@dataclass(frozen=True, eq=False)
class Split:
    """A split in memory: `images` uint8 [N, C, H, W], preferably channels-last; `labels` int64 [N]."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images must be uint8 [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must be int64 [N], not {self.labels.dtype} {list(self.labels.shape)}")

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, c, h, w = self.images.shape
        return int(c), int(h), int(w)

    @property
    def pixels(self) -> Tensor:
        """The images as contiguous uint8 [N, H, W, C]; a view if `images` is in channels-last memory."""
        return self.images.permute(0, 2, 3, 1).contiguous()

    def subset(self, indices: Tensor) -> Split:
        """Return a copy of the images at `indices` (int64 [M]); it shares no memory with this split."""
        return Split.of_pixels(self.pixels.index_select(0, indices), self.labels.index_select(0, indices))

    @staticmethod
    def of_pixels(pixels: Tensor, labels: Tensor) -> Split:
        """Return the split whose images are `pixels`, uint8 [N, H, W, C]."""
        return Split(pixels.permute(0, 3, 1, 2), labels)


class Items(Protocol):
    """The source of a streamed split: a map-style data set of (image, label) pairs."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class StreamSplit:
    """A split read from disk or from a torch Dataset on demand, with the interface of `Split`.

    items:   source of the images; item i must always be the same image (augmentation happens later).
    indices: int64 [N], the items that belong to this split.
    labels:  int64 [N].
    shape:   (C, H, W) of every image.
    name:    for error messages.
    workers: processes that read ahead; the batches do not depend on it.
    """

    items: Items
    indices: Tensor
    labels: Tensor
    shape: tuple[int, int, int]
    name: str
    workers: int = 0

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def subset(self, indices: Tensor) -> StreamSplit:
        """Return the split of the images at `indices` (int64 [M], positions in this split)."""
        return replace(self, indices=self.indices[indices], labels=self.labels[indices])

    def read(self, positions: Sequence[int]) -> Tensor:
        """Read the images at these positions, uint8 [B, H, W, C]. Raises DataError, which names the bad item."""
        images = [self._read_one(position) for position in positions]
        return torch.stack(images)

    def _read_one(self, position: int) -> Tensor:
        index = int(self.indices[position])
        where = f"{self.name}: item {index}"
        try:
            item = self.items[index]
        except DataError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(f"{where} cannot be read ({one_line(error)}); fix the data set") from error
        pixels, label = pair_of(item, where)
        image = item_image(pixels, where)
        h, w, c = image.shape
        if (c, h, w) != self.shape:
            raise DataError(
                f"{where} has shape {[c, h, w]}, others {list(self.shape)}; make all images the same size"
            )
        expected = int(self.labels[position])
        if (found := item_label(label, where)) != expected:
            raise DataError(
                f"{where} has label {found}, earlier {expected}; make the data set return constant labels"
            )
        return image


ImageSplit = Split | StreamSplit


def pair_of(item: Any, where: str) -> tuple[Any, Any]:
    """The image and the label of an item. Raises DataError, which says what the item is and how to return a pair."""
    remedy = "return a pair (image, label) from __getitem__"
    if isinstance(item, Mapping):
        keys = [str(key) for key in cast("Mapping[Any, Any]", item)]
        shown = ", ".join(keys[:6]) + (", …" if len(keys) > 6 else "")
        image = next((key for key in keys if "im" in key.lower() or "pixel" in key.lower()), "image")
        label = next((key for key in keys if "label" in key.lower() or "target" in key.lower()), "label")
        remedy += f': item["{image}"], item["{label}"]'
        raise DataError(f"{where} is a {type(item).__name__} with the keys {shown}; {remedy}")
    if not isinstance(item, (tuple, list)):
        raise DataError(f"{where} is a {type(item).__name__}; {remedy}")
    values = list(cast("Sequence[Any]", item))
    if len(values) != 2:
        more = ": the first two of yours, item[:2]" if len(values) > 2 else ""
        raise DataError(f"{where} is a {type(item).__name__} of {len(values)}; {remedy}{more}")
    return values[0], values[1]


@dataclass(frozen=True, eq=False)
class Parts:
    """A user's data. Where `val` or `test` is None, it is held out of `train` when it is needed."""

    train: ImageSplit
    val: ImageSplit | None
    test: ImageSplit | None
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SearchData:
    """All the data that a search can access: no test split, and nothing that leads to one.

    mean, std: per channel, of the training images scaled to [0, 1] (of an even sample for a streamed split).
    digest:    SHA-256 of training and validation images, labels and class names; for a folder of images, of the
               names and contents of the files; for another streamed split, of all labels and of the pixels of an even
               sample, and of what its own method `fingerprint(indices)` returns, if it has one.
    former:    the digest as earlier versions made it: for a folder of images, of the files' names and sizes, and of
               the pixels of an even sample.
    """

    name: str
    train: ImageSplit
    val: ImageSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    digest: str
    former: str = ""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.train.shape


def one_line(error: BaseException) -> str:
    """Return the error's message on one line, at most 200 characters, or its type if it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
