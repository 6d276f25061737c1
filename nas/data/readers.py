"""The file formats of the published sets: bytes in, Split out. Legend: N images."""

from __future__ import annotations

import gzip
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.data.types import Split


@dataclass(frozen=True)
class Contents:
    """The files of a part in order, each read when it is reached: only one is in memory at a time."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[bytes]:
        return map(self.read, self.names)


def read_idx(contents: Contents) -> Split:
    """Read MNIST's IDX files, images first, then labels, gzipped or not. Raises ValueError for another format."""
    images, labels = (_idx(name, contents.read(name)) for name in contents.names)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(f"images {list(images.shape)} do not match labels {list(labels.shape)}")
    return Split.of_pixels(images[..., None], labels.long())


def _idx(name: str, raw: bytes) -> Tensor:
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(f"{name} does not start with the header of an IDX file of bytes")
    start = 4 + 4 * raw[3]
    shape = [int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4)]
    if len(raw) - start != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{name} has {len(raw) - start} bytes for shape {shape}")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy())


def read_cifar(key: str, contents: Contents) -> Split:
    """Read CIFAR's batches: pickles (MD5 already checked) of `data` uint8 [N, 3072] and labels under `key`."""
    pixels = torch.empty(0, 32, 32, 3, dtype=torch.uint8)
    labels: list[int] = []
    for number, raw in enumerate(contents):
        batch = _unpickle(raw)
        images = torch.from_numpy(batch[b"data"]).view(-1, 3, 32, 32).permute(0, 2, 3, 1)
        if number == 0:
            # Filled in place: keeping all batches until the end would double the memory of the process.
            pixels = torch.empty(len(contents) * len(images), 32, 32, 3, dtype=torch.uint8)
        pixels[len(labels) : len(labels) + len(images)] = images
        labels += batch[key.encode()]
    return Split.of_pixels(pixels, torch.tensor(labels, dtype=torch.int64))


def read_names(raw: bytes, key: str) -> tuple[str, ...]:
    """Read the class names from CIFAR's meta file (its MD5 already checked)."""
    return tuple(name.decode() for name in _unpickle(raw)[key.encode()])


def _unpickle(raw: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about arrays that were pickled in 2009
        return pickle.loads(raw, encoding="bytes")


def read_mat(contents: Contents) -> Split:
    """Read SVHN's MATLAB file: X uint8 [32, 32, 3, N], y [N, 1] with 10 for the digit 0."""
    from scipy.io import loadmat

    (raw,) = contents
    held: dict[str, Any] = loadmat(io.BytesIO(raw))
    pixels = np.ascontiguousarray(held["X"].transpose(3, 0, 1, 2))
    labels = torch.from_numpy(held["y"].astype(np.int64).reshape(-1)) % 10
    return Split.of_pixels(torch.from_numpy(pixels), labels)
