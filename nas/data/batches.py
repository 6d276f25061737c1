"""Whole batches: indexing, augmentation and normalisation without per-image Python.

Crop and flip are one gather of uint8 pixels from the whole split; normalisation is one multiply-add.
All random draws use the CPU generator passed in, so the batches do not depend on the device.
Legend: N images, C channels, H height, W width, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nas.base.errors import DataError
from nas.base.import_path import safe_path
from nas.data.augment import NONE, Augment
from nas.data.tokens import holds_tokens
from nas.data.types import ImageSplit, Split, StreamSplit, ValueSplit

Batch = tuple[Tensor, Tensor]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # [B, H, W, C]

HELD_BYTES = 10**8  # of pixels that a training keeps once it has read them


def train_batches(
    split: ImageSplit,
    batch_size: int,
    generator: torch.Generator,
    mean: Sequence[float],
    std: Sequence[float],
    augment: Augment,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.channels_last,
    skip: int = 0,
) -> Iterator[Batch]:
    """Yield shuffled batches (x [B, C, H, W] of `dtype`, y: the targets) on `device` without end. Examples that are not
    images have x [B, F] or [B, C, L], are not augmented, and are of the contiguous format; tokens stay int64 [B, T].

    Every batch is full: a batch that reaches the end of an epoch continues with the next epoch, so over k epochs
    each image occurs exactly k times. Two numbers are drawn from `generator` at the call and none later, so its
    state at the call decides all batches, whatever the device and the number of readers.

    generator: on the CPU.
    mean, std: per channel, of images scaled to [0, 1]; of tokens empty.
    skip:      number of batches to skip; costs their random draws, a few microseconds each.
    Raises ValueError for arguments that do not fit the split, DataError (while iterating) for an unreadable image.
    """
    _check(split, batch_size, mean, std)
    if generator.device.type != "cpu":
        raise ValueError(f"train_batches: generator is on {generator.device}; pass a CPU generator")
    if isinstance(split, ValueSplit):
        augment = NONE
    elif augment.crop < 0 or augment.crop >= min(split.shape[1:]):
        raise ValueError(
            f"train_batches: crop={augment.crop} is not in 0 … {min(split.shape[1:]) - 1}; use a smaller crop"
        )
    order, draws = _child_generator(generator), _child_generator(generator)
    indices = _shuffled(len(split), batch_size, order)
    for _ in range(skip):
        _drawn(augment, len(next(indices)), draws)
    target = torch.device(device)
    if isinstance(split, ValueSplit):
        return _values(split, indices, mean, std, target, dtype)
    raw = _raw(split, indices, augment, draws, target)
    return _normalised(raw, mean, std, target, dtype, memory_format)


def eval_batches(
    split: ImageSplit,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.channels_last,
) -> Iterator[Batch]:
    """Yield the split once, in order, not augmented; the last batch may be smaller. Otherwise as `train_batches`."""
    _check(split, batch_size, mean, std)
    indices = iter(torch.arange(len(split)).split(batch_size))
    target = torch.device(device)
    if isinstance(split, ValueSplit):
        return _values(split, indices, mean, std, target, dtype)
    raw = _raw(split, indices, NONE, torch.Generator(), target)
    return _normalised(raw, mean, std, target, dtype, memory_format)


def _check(split: ImageSplit, batch_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
    if batch_size < 1 or len(split) < 1:
        raise ValueError(f"batch_size={batch_size} for {len(split)} images; both must be at least 1")
    channels = 0 if holds_tokens(split) else split.shape[0]
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"mean has {len(mean)} channels and std {len(std)}, the images have {channels}; pass one per channel"
        )


def _values(
    split: ValueSplit,
    indices: Iterator[Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Batch]:
    """The examples at `indices`, standardised along their first axis; tokens as they are."""
    labels = split.labels.to(device)
    if holds_tokens(split):
        inputs = split.inputs.to(device)
    else:
        each = (-1, *(1 for _ in split.shape[1:]))
        mean_, std_ = (torch.tensor(part, dtype=torch.float64).float().view(each) for part in (mean, std))
        inputs = ((split.inputs - mean_) / std_).to(device, dtype)
    for chosen in indices:
        here = chosen.to(device)
        yield inputs.index_select(0, here), labels.index_select(0, here)


def _child_generator(generator: torch.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))


def _shuffled(count: int, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        if len(waiting) < batch_size:
            epochs = -(-(batch_size - len(waiting)) // count)
            waiting = torch.cat([waiting, *(torch.randperm(count, generator=order) for _ in range(epochs))])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _raw(
    split: Split | StreamSplit,
    indices: Iterator[Tensor],
    augment: Augment,
    draws: torch.Generator,
    device: torch.device,
) -> Iterator[Batch]:
    if not isinstance(split, Split):
        yield from _streamed(split, indices, augment, draws, device)
        return
    pixels, labels = split.pixels.to(device), split.labels.to(device)
    for chosen in indices:
        here = chosen.to(device)
        yield _crop_and_flip(pixels, here, augment, draws), labels.index_select(0, here)


def _crop_and_flip(pixels: Tensor, chosen: Tensor, augment: Augment, draws: torch.Generator) -> Tensor:
    """Return the `chosen` images (int64 [B]) of `pixels` (uint8 [N, H, W, C]), augmented, as uint8 [B, H, W, C]."""
    drawn = _drawn(augment, len(chosen), draws)
    if drawn is None:
        return pixels.index_select(0, chosen)
    shift, mirrored = drawn
    n, h, w, c = pixels.shape
    b = len(chosen)
    row = _reflect(torch.arange(h) + shift[0], h)
    column = _reflect(torch.arange(w) + shift[1], w)
    if mirrored is not None:
        column = torch.where(mirrored == 1, w - 1 - column, column)
    row, column = row.to(pixels.device), column.to(pixels.device)
    pixel = ((chosen[:, None] * h + row) * w)[:, :, None] + column[:, None, :]
    return pixels.view(n * h * w, c).index_select(0, pixel.view(-1)).view(b, h, w, c)


def _drawn(augment: Augment, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor | None] | None:
    """Draw the augmentation of `count` images: each one's shift [2, B, 1] and whether it is mirrored [B, 1]."""
    if not augment.crop and not augment.flip:
        return None
    shift = torch.randint(-augment.crop, augment.crop + 1, (2, count, 1), generator=draws)
    return shift, torch.randint(2, (count, 1), generator=draws) if augment.flip else None


def _reflect(position: Tensor, size: int) -> Tensor:
    """Mirror positions outside 0 … size - 1 at the border pixel, as torch's padding mode "reflect" does."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _normalised(
    raw: Iterator[Batch],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> Iterator[Batch]:
    # (v / 255 - mean) / std as v * scale + bias; in double first, so that both are rounded once.
    mean_, std_ = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    scale, bias = (1 / (255 * std_)).float().to(device), (-mean_ / std_).float().to(device)
    for pixels, y in raw:
        b, h, w, c = pixels.shape
        # Rows of W * C values against a tiled scale: a broadcast over C = 3 alone would not vectorise.
        rows = pixels.view(b, h, w * c).to(torch.float32)
        torch.addcmul(bias.repeat(w), rows, scale.repeat(w), out=rows)
        x = rows.view(b, h, w, c).permute(0, 3, 1, 2)
        yield x.to(dtype=dtype).contiguous(memory_format=memory_format), y


class _BatchReader(Dataset[Pixels | DataError]):
    """Reads whole batches, in the worker processes if there are any; an error is returned as a value. Without worker
    processes, images that take at most HELD_BYTES are read once.

    Batches are NumPy arrays: a thread of the worker sends them, and one that is sending a tensor when the process ends
    aborts it, since Python ends such a thread in the middle of torch's own code.
    """

    def __init__(self, split: StreamSplit) -> None:
        self._split = split
        c, h, w = split.shape
        held = not split.workers and len(split) * c * h * w <= HELD_BYTES
        self._pixels = torch.empty((len(split), h, w, c), dtype=torch.uint8) if held else None
        self._known = torch.zeros(len(split), dtype=torch.bool)

    def __getitems__(self, positions: list[int]) -> tuple[list[int], Pixels | DataError]:
        try:
            return positions, self._read(torch.tensor(positions)).numpy()
        except DataError as error:
            return positions, error

    def _read(self, where: Tensor) -> Tensor:
        if self._pixels is None:
            return self._split.read(cast(list[int], where.tolist()))
        new = where[~self._known[where]].unique()
        if len(new):
            self._pixels[new] = self._split.read(cast(list[int], new.tolist()))
            self._known[new] = True
        return self._pixels[where]

    def __len__(self) -> int:
        return len(self._split)


def _as_is(batch: Any) -> Any:
    return batch


def _lists(indices: Iterator[Tensor]) -> Iterator[list[int]]:
    for chosen in indices:
        yield cast(list[int], chosen.tolist())


def _streamed(
    split: StreamSplit,
    indices: Iterator[Tensor],
    augment: Augment,
    draws: torch.Generator,
    device: torch.device,
) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        _BatchReader(split),
        batch_sampler=cast(Any, _lists(indices)),
        num_workers=split.workers,
        collate_fn=_as_is,
        generator=torch.Generator(),  # otherwise the loader draws its workers' seed from the global generator
        multiprocessing_context="spawn" if split.workers else None,
    )
    with safe_path():
        batches = iter(loader)  # starts its processes
    for where, images in batches:
        if isinstance(images, DataError):
            raise images
        pixels = torch.from_numpy(images).to(device)
        everything = torch.arange(len(pixels), device=device)
        yield _crop_and_flip(pixels, everything, augment, draws), split.labels[where].to(device)
