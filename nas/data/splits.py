"""Stratified splits fixed by seed, statistics and digests. Legend: N images, C channels."""

from __future__ import annotations

import hashlib
from typing import cast

import torch
from torch import Tensor

from nas.base.errors import DataError
from nas.data.types import ImageSplit, Split

VAL_FRACTION = 0.1
SAMPLE = 512  # images of a streamed split that are read for its statistics and digest


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for each (seed, purpose)."""
    digest = hashlib.sha256(f"nas.data/{purpose}/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def stratified(labels: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(kept, held out): ascending positions, int64; each class gives `fraction` of its images, rounded.

    A class with two images or more is on both sides; a class with one image stays on the kept side.
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


def hold_out(split: ImageSplit, fraction: float, seed: int, purpose: str) -> tuple[ImageSplit, ImageSplit]:
    """(rest, held out) of a split; `purpose` says what for ("validation", "test") and seeds the draw."""
    kept, held = stratified(split.labels, fraction, generator_for(seed, purpose))
    if len(held) == 0:
        raise DataError(f"no class has two images, so none can be held out for {purpose}; add images")
    return split.subset(kept), split.subset(held)


def check_labels(train: ImageSplit, other: ImageSplit, classes: int, where: str) -> None:
    """Every class has a training image, and no other split has a class or a shape that training lacks."""
    if len(other) == 0:
        raise DataError(f"{where} is empty; add images")
    present = torch.zeros(classes, dtype=torch.bool)
    present[train.labels] = True
    if classes < 2:
        raise DataError(f"{where}: there is one class only; a classifier needs two")
    if not bool(present.all()):
        absent = int((~present).nonzero()[0])
        raise DataError(
            f"{where}: class {absent} of 0 … {classes - 1} has no training image; number classes without gaps"
        )
    if int(other.labels.max()) >= classes:
        raise DataError(
            f"{where}: label {int(other.labels.max())} does not occur in training (0 … {classes - 1})"
        )
    if other.shape != train.shape:
        raise DataError(
            f"{where}: images are {list(other.shape)}, training images {list(train.shape)}; make them alike"
        )


def sample(split: ImageSplit) -> Split:
    """The split itself when it is in memory, else an even sample of at most SAMPLE images."""
    if isinstance(split, Split):
        return split
    positions = torch.linspace(0, len(split) - 1, min(SAMPLE, len(split)), dtype=torch.float64).round().long()
    return Split.of_pixels(split.read(cast(list[int], positions.tolist())), split.labels[positions])


def mean_std(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of the images scaled to [0, 1].

    Sums are of integers, so the figures do not depend on the order of summation. A constant channel gets the
    standard deviation of rounding, 1/255, so that dividing by it is harmless.
    """
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


def digest(train: tuple[ImageSplit, Split], val: tuple[ImageSplit, Split], classes: tuple[str, ...]) -> str:
    """SHA-256 over images, labels and class names; each split comes with its `sample`."""
    sha = hashlib.sha256(repr(classes).encode())
    for split, seen in (train, val):
        sha.update(repr((len(split), split.shape)).encode())
        sha.update(split.labels.numpy().data)
        if not isinstance(split, Split):
            names = getattr(split.items, "fingerprint", None)
            sha.update(names(split.indices).encode() if names else b"")
        sha.update(seen.pixels.numpy().data)
    return sha.hexdigest()
