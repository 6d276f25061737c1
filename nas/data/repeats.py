"""Pictures that are in the data more than once, which makes their validation split look better than it is, or that are
in several classes, of which a network can learn one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from nas.base.text import plural
from nas.data.folder import ImageFiles
from nas.data.types import ImageSplit, Split, StreamSplit


def repeats(train: ImageSplit, val: ImageSplit, classes: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of copies among the pictures, which are compared byte by byte: lines of text, mostly none.

    Pictures of folders are compared as files. Nothing is said of tables, whose rows may well be alike, nor of a torch
    Dataset, which would have to be read whole.
    """
    seen, seen_val = _contents(train), _contents(val)
    return (
        *_in_classes(seen + seen_val, torch.cat([train.labels, val.labels]), classes),
        *_twice(seen, seen_val),
    )


def _contents(split: ImageSplit) -> list[bytes]:
    if isinstance(split, Split):
        return [hashlib.sha256(image.tobytes()).digest() for image in split.pixels.numpy()]
    if (
        not isinstance(split, StreamSplit)
        or not isinstance(split.items, ImageFiles)
        or split.items.hashes is None
    ):
        return []
    digests = split.items.hashes.numpy()
    return [digests[index].tobytes() for index in split.indices.tolist()]


def _in_classes(contents: Sequence[bytes], labels: torch.Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    if labels.dtype != torch.int64 or not contents:
        return ()
    found: dict[bytes, set[int]] = {}
    for content, label in zip(contents, labels.tolist(), strict=True):
        found.setdefault(content, set()).add(label)
    conflicts = [sorted(several) for several in found.values() if len(several) > 1]
    if not conflicts:
        return ()
    names = " and ".join(classes[label] for label in conflicts[0][:2])
    return (
        f"{_are(len(conflicts), 'picture')} in more than one class, such as {names}: a network can learn one of them; "
        "keep each picture in the class that is right",
    )


def _twice(seen: Sequence[bytes], seen_val: Sequence[bytes]) -> tuple[str, ...]:
    known = set(seen)
    again = sum(content in known for content in seen_val)
    if not again:
        return ()
    return (
        f"{_are(again, 'validation picture')} in the training split too, which makes the validation score look better "
        "than it is; remove the copies",
    )


def _are(number: int, noun: str) -> str:
    return f"{plural(number, noun)} {'is' if number == 1 else 'are'}"
