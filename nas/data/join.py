"""Two splits as one: the training examples with those held out for validation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from nas.data.types import ImageSplit, SearchData, Split, StreamSplit, ValueSplit


@dataclass(frozen=True, eq=False)
class _Both:
    """The items of two streamed splits."""

    one: StreamSplit
    other: StreamSplit

    def __len__(self) -> int:
        return len(self.one) + len(self.other)

    def __getitem__(self, index: int, /) -> Any:
        split, position = (self.one, index) if index < len(self.one) else (self.other, index - len(self.one))
        return split.items[int(split.indices[position])]


def with_validation(data: SearchData) -> SearchData:
    """`data` with the validation examples among those to train on. Mean and deviation stay those of the others."""
    return replace(data, train=joined(data.train, data.val))


def joined(one: ImageSplit, other: ImageSplit) -> ImageSplit:
    """The examples of two splits of one kind, one after the other. Raises TypeError for different kinds."""
    labels = torch.cat([one.labels, other.labels])
    match one, other:
        case Split(), Split():
            return Split.of_pixels(torch.cat([one.pixels, other.pixels]), labels)
        case ValueSplit(), ValueSplit():
            return ValueSplit(torch.cat([one.inputs, other.inputs]), labels)
        case StreamSplit(), StreamSplit():
            return replace(one, items=_Both(one, other), indices=torch.arange(len(labels)), labels=labels)
        case _:
            raise TypeError(f"a {type(one).__name__} and a {type(other).__name__} can't be joined")
