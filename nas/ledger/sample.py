"""The outcome of a trial on single validation images, in a few kilobytes of text. Legend: N images."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST = 2048  # images; of larger splits every k-th is taken

Losses = np.ndarray[Any, np.dtype[np.float16]]
Hits = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Sample:
    """losses: cross-entropy of each image [N]. hits: whether the largest output is the image's class [N].

    The same images, in the same order, for all trials of a run.
    """

    losses: Losses
    hits: Hits

    def to_text(self) -> str:
        """As text, for the ledger."""
        raw = self.losses.astype("<f2").tobytes() + np.packbits(self.hits).tobytes()
        return base64.b64encode(zlib.compress(raw, 1)).decode()


def sample_of(losses: np.ndarray[Any, Any], hits: np.ndarray[Any, Any]) -> Sample:
    """At most MOST of the images [N], evenly spread; losses above the range of 16 bits are cut off."""
    step = -(-len(losses) // MOST)
    kept = np.minimum(losses[::step], np.finfo(np.float16).max)
    return Sample(kept.astype(np.float16), hits[::step].astype(np.bool_))


def sample_from(text: str) -> Sample:
    """The sample of `Sample.to_text`. Raises ValueError for anything else."""
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(text, validate=True), 4 * MOST)
    except zlib.error as error:
        raise ValueError(f"not a sample: {error}") from None
    count = 8 * len(raw) // 17
    if not 0 < count <= MOST or 2 * count + -(-count // 8) != len(raw):
        raise ValueError(f"not a sample: it has {len(raw)} bytes")
    losses = np.frombuffer(raw[: 2 * count], "<f2").astype(np.float16)
    if not np.isfinite(losses).all():
        raise ValueError("not a sample: a loss is not finite")
    packed = np.frombuffer(raw[2 * count :], np.uint8)
    return Sample(losses, np.unpackbits(packed, count=count).astype(np.bool_))
