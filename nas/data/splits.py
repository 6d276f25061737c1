"""Stratified splits fixed by seed, statistics and digests. Legend: N images, C channels."""

from __future__ import annotations

import hashlib
from typing import Protocol, Self, TypeVar, cast

import torch
from torch import Tensor

from nas.base.errors import DataError
from nas.data.types import ImageSplit, Split, StreamSplit, ValueSplit

VAL_FRACTION = 0.1
SAMPLE = 512  # number of images of a streamed split read for its statistics and digest


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """Return a generator seeded by (seed, purpose)."""
    digest = hashlib.sha256(f"nas.data/{purpose}/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def stratified(labels: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return (kept, held out) as ascending int64 positions, with `fraction` of each class, rounded, held out.

    A class with at least two images is on both sides; a class with one image is kept.
    """
    kept: list[Tensor] = []
    held: list[Tensor] = []
    members = labels.argsort(stable=True).split(cast(list[int], labels.bincount().tolist()))
    for positions in members:
        count = len(positions)
        take = min(max(int(fraction * count + 0.5), 1), count - 1) if count > 1 else 0
        shuffled = positions[torch.randperm(count, generator=generator)]
        held.append(shuffled[:take])
        kept.append(shuffled[take:])
    return torch.cat(kept).sort().values, torch.cat(held).sort().values


def strata(targets: Tensor) -> Tensor:
    """What splits are stratified by, int64 [N]: the classes; tenths of the range of a single value, by rank; nothing of
    several numbers.
    """
    if targets.dtype == torch.int64:
        return targets
    if targets.shape[1] > 1:
        return torch.zeros(len(targets), dtype=torch.int64)
    ranks = targets[:, 0].argsort(stable=True).argsort(stable=True)
    return ranks * min(10, max(1, len(targets) // 10)) // len(targets)


class Divisible(Protocol):
    """Examples that can be divided into splits."""

    @property
    def labels(self) -> Tensor:
        """Their targets."""
        ...

    def subset(self, indices: Tensor) -> Self:
        """Those at `indices`."""
        ...


S = TypeVar("S", bound=Divisible)


def hold_out(split: S, fraction: float, seed: int, purpose: str) -> tuple[S, S]:
    """Split into (rest, held out); `purpose` ("validation", "test") is part of the draw's seed. Raises DataError."""
    kept, held = stratified(strata(split.labels), fraction, generator_for(seed, purpose))
    if len(held) == 0:
        raise DataError(f"no class has two examples, so none can be held out for {purpose}; add examples")
    return split.subset(kept), split.subset(held)


def check_labels(train: ImageSplit, other: ImageSplit, classes: int, where: str) -> None:
    """Raise DataError unless every class has a training image and `other` has the same classes and shape."""
    if len(other) == 0:
        raise DataError(f"{where} is empty; add images")
    if train.labels.dtype != other.labels.dtype:
        kinds = [
            "class numbers" if split.labels.dtype == torch.int64 else "floats" for split in (other, train)
        ]
        raise DataError(f"{where}: the targets are {kinds[0]}, in training {kinds[1]}; give one kind")
    if train.labels.dtype != torch.int64:
        _check_values(train, other, where)
        return
    lowest = min(int(split.labels.min()) for split in (train, other))
    if lowest < 0:
        raise DataError(
            f"{where}: label {lowest} is not a class number; number the classes 0 … K-1, or give --task regression"
        )
    present = torch.zeros(classes, dtype=torch.bool)
    present[train.labels] = True
    if classes < 2:
        raise DataError(f"{where}: there is only one class; a classifier needs at least two")
    if not bool(present.all()):
        absent = int((~present).nonzero()[0])
        raise DataError(
            f"{where}: class {absent} of 0 … {classes - 1} has no training image; number the classes without gaps"
        )
    if int(other.labels.max()) >= classes:
        raise DataError(
            f"{where}: label {int(other.labels.max())} is not a training class (0 … {classes - 1}); fix the labels"
        )
    _check_shape(train, other, where)


def _check_values(train: ImageSplit, other: ImageSplit, where: str) -> None:
    if other.labels.shape[1:] != train.labels.shape[1:]:
        counts = [split.labels.shape[1] if split.labels.ndim > 1 else 1 for split in (other, train)]
        raise DataError(
            f"{where}: there are {counts[0]} target values for each example, in training {counts[1]}; give equally many"
        )
    if bool((train.labels == train.labels[0]).all()):
        raise DataError(
            f"{where}: all training targets are equal, so there is nothing to learn; check the targets"
        )
    _check_shape(train, other, where)


def _check_shape(train: ImageSplit, other: ImageSplit, where: str) -> None:
    if other.shape != train.shape:
        raise DataError(
            f"{where}: images are {list(other.shape)}, training images {list(train.shape)}; use one shape for all"
        )


def sample(split: ImageSplit) -> Split | ValueSplit:
    """Return the split itself if it is in memory, else an even sample of at most SAMPLE images."""
    if not isinstance(split, StreamSplit):
        return split
    positions = torch.linspace(0, len(split) - 1, min(SAMPLE, len(split)), dtype=torch.float64).round().long()
    return Split.of_pixels(split.read(cast(list[int], positions.tolist())), split.labels[positions])


def mean_std(split: Split | ValueSplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of the images scaled to [0, 1]; of vectors per number, of sequences per
    channel, where a constant one gets 1, and where numbers that are all 0 or 1 stay as they are, with mean 0 and 1;
    of tokens none.

    Sums are of integers, so the figures do not depend on the order of summation. A constant channel gets the
    standard deviation of rounding, 1/255, so that dividing by it is harmless.
    """
    if isinstance(split, ValueSplit):
        return _mean_std(split.inputs) if split.inputs.is_floating_point() else ((), ())
    pixels = split.pixels
    n, h, w, c = pixels.shape
    total = torch.zeros(w * c, dtype=torch.int64)
    squares = torch.zeros(w * c, dtype=torch.int64)
    for rows in pixels.view(n * h, w * c).split(1 << 14):
        values = rows.to(torch.int32)
        total += values.sum(0)
        squares += (values * values).sum(0)
    count = n * h * w
    mean = total.view(w, c).sum(0).double() / count
    variance = squares.view(w, c).sum(0).double() / count - mean * mean
    std = variance.clamp(min=1.0).sqrt()
    return tuple(cast(list[float], (mean / 255).tolist())), tuple(cast(list[float], (std / 255).tolist()))


def _mean_std(inputs: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    rows = inputs.double().transpose(0, 1).flatten(1)
    mean, std = rows.mean(1), rows.std(1, correction=0)
    alone = (
        ((rows == 0) | (rows == 1)).all(1) if inputs.ndim == 2 else torch.zeros(len(rows), dtype=torch.bool)
    )
    mean, std = mean.masked_fill(alone, 0.0), std.masked_fill(alone | (std == 0), 1.0)
    return tuple(cast(list[float], mean.tolist())), tuple(cast(list[float], std.tolist()))


def digest(
    train: tuple[ImageSplit, Split | ValueSplit],
    val: tuple[ImageSplit, Split | ValueSplit],
    classes: tuple[str, ...],
    fingerprint: str = "fingerprint",
) -> str:
    """Return the SHA-256 of images, labels and class names; each split is passed with its `sample`.

    fingerprint: the name of the method that a streamed split's items may have to describe themselves.
    """
    sha = hashlib.sha256(repr(classes).encode())
    for split, seen in (train, val):
        sha.update(repr((len(split), split.shape)).encode())
        sha.update(split.labels.contiguous().numpy().data)
        if isinstance(split, StreamSplit):
            described = getattr(split.items, fingerprint, None) or getattr(split.items, "fingerprint", None)
            sha.update(described(split.indices).encode() if described else b"")
        sha.update((seen.inputs if isinstance(seen, ValueSplit) else seen.pixels).contiguous().numpy().data)
    return sha.hexdigest()
