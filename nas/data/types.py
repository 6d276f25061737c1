"""The values of this package. Legend: N images, C channels, H height, W width, B batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from nas.base.errors import DataError
from nas.data.augment import Augment
from nas.data.convert import item_image, item_target
from nas.data.picture import Reading
from nas.data.table import Column
from nas.data.task import Task, classification


@dataclass(frozen=True, eq=False)
class Split:
    """A split in memory: `images` uint8 [N, C, H, W], preferably channels-last; `labels`: the targets, int64 [N] of
    class numbers or float32 [N, K].
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images must be uint8 [N, C, H, W], not {self.images.dtype} {list(self.images.shape)}"
            )
        check_form(self.labels, len(self.images))

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
    labels:  the targets, int64 [N] of class numbers or float32 [N, K].
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
        image = item_image(pixels, where, self.shape[0])
        h, w, c = image.shape
        if (c, h, w) != self.shape:
            raise DataError(
                f"{where} has shape {[c, h, w]}, others {list(self.shape)}; make all images the same size"
            )
        expected = self.labels[position].reshape(-1)
        if not torch.equal((found := item_target(label, where)).to(expected.dtype).reshape(-1), expected):
            fact = f"{where} has label {shown(found)}, earlier {shown(expected)}"
            raise DataError(f"{fact}; make the data set return constant labels")
        return image


@dataclass(frozen=True, eq=False)
class ValueSplit:
    """A split of vectors, sequences or tokens in memory: `inputs` float32 [N, F] or [N, C, L], or int64 [N, T];
    `labels` as in `Split`.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.inputs.ndim not in {torch.float32: (2, 3), torch.int64: (2,)}.get(self.inputs.dtype, ()):
            found = f"{self.inputs.dtype} {list(self.inputs.shape)}"
            raise ValueError(f"inputs must be float32 [N, F] or [N, C, L], or int64 [N, T], not {found}")
        check_form(self.labels, len(self.inputs))

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """(F,) of one vector, (C, L) of one sequence, (T,) of tokens."""
        return tuple(self.inputs.shape[1:])

    def subset(self, indices: Tensor) -> ValueSplit:
        """Return a copy of the examples at `indices` (int64 [M]); it shares no memory with this split."""
        return ValueSplit(self.inputs.index_select(0, indices), self.labels.index_select(0, indices))


ImageSplit = Split | StreamSplit | ValueSplit


def check_form(targets: Tensor, count: int) -> None:
    """Raise ValueError unless targets are int64 [count] or float32 [count, K]."""
    form = {torch.int64: 1, torch.float32: 2}.get(targets.dtype)
    if targets.ndim != form or len(targets) != count:
        found = f"{targets.dtype} {list(targets.shape)}"
        raise ValueError(f"labels must be int64 [{count}] or float32 [{count}, K], not {found}")


def shown(target: Tensor) -> str:
    """A target in an error message."""
    values = cast("list[float]", target.reshape(-1).tolist())
    return f"{values[0]:g}" if len(values) == 1 else f"{values[:6]!r}"


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
    """A user's data. Where `val` or `test` is None, it is held out of `train` when it is needed.

    reading: how the pictures are read, if they are files. notes: what the user should know, a line each.
    tokens: how many tokens there are, where the examples are tokens.
    """

    train: ImageSplit
    val: ImageSplit | None
    test: ImageSplit | None
    classes: tuple[str, ...]
    reading: Reading | None = None
    notes: tuple[str, ...] = ()
    tokens: int | None = None


@dataclass(frozen=True, eq=False)
class SearchData:
    """All the data that a search can access: no test split, and nothing that leads to one.

    mean, std: per channel, of the training images scaled to [0, 1] (of an even sample for a streamed split); of
               vectors per number, of sequences per channel; of tokens there are none.
    classes:   the names of the outputs: of classes, labels or values.
    digest:    SHA-256 of training and validation images, labels and class names; for a folder of images, of the
               names and contents of the files; for another streamed split, of all labels and of the pixels of an even
               sample, and of what its own method `fingerprint(indices)` returns, if it has one.
    former:    the digest as earlier versions made it: for a folder of images, of the files' names and sizes, and of
               the pixels of an even sample.
    reading:   how a picture becomes an input: as the files were read, or for other data the plainest way.
    table:     how a row of a CSV file becomes an input.
    notes:     what the data are and what is done to them, a line each.
    held_out:  whether the validation examples were held out of the training examples.
    tokens:    how many tokens there are, where the inputs are tokens: whole numbers below this.
    """

    name: str
    train: ImageSplit
    val: ImageSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    digest: str
    reading: Reading | None = None
    notes: tuple[str, ...] = ()
    former: str = ""
    table: tuple[Column, ...] | None = None
    task: Task = field(default_factory=lambda: classification(()))
    held_out: bool = True
    tokens: int | None = None

    @property
    def outputs(self) -> int:
        """How many numbers a network puts out."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image, (F,) of one vector, (C, L) of one sequence, (T,) of tokens."""
        return self.train.shape


def one_line(error: BaseException) -> str:
    """Return the error's message on one line, at most 200 characters, or its type if it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
