"""`package.module:function`: the user's own data.

The function takes no argument and returns (train, test) or (train, val, test). Each part is a pair
(images, labels) of arrays (see `nas.data.convert`), which is held in memory, or a map-style torch Dataset of
(image, label) items, which is streamed. Only names from the command line may be passed here, since importing
a module runs its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from nas.base.errors import DataError
from nas.base.user_code import call_named, where_raised
from nas.data.convert import item_image, item_label, to_labels, to_pixels
from nas.data.types import ImageSplit, Items, Parts, Split, StreamSplit, pair_of
from nas.ledger.files import wellformed

_SPOT_CHECKS = 16
PART = "return (images, labels), or a torch Dataset with len() and indices"


def call(spec: str) -> Parts:
    """Import and call the function. Raises DataError for any failure, with the place in the user's file."""
    returned = call_named(spec, "--data", DataError)
    if isinstance(returned, Mapping):
        keys = ", ".join(str(key) for key in list(cast("Mapping[Any, Any]", returned))[:6])
        fact = f"{spec} returned a {type(returned).__name__} with the keys {keys}"
        raise DataError(f"{fact}; return its parts as a tuple, (train, test) or (train, val, test)")
    if not isinstance(returned, (tuple, list)) or len(cast(Any, returned)) not in (2, 3):
        raise DataError(
            f"{spec} returned {_kind(returned)}; return (train, test) or (train, val, test), "
            "each a pair of arrays (images, labels) or a torch Dataset"
        )
    given = list[Any](cast(Any, returned))
    roles = ("train", "test") if len(given) == 2 else ("train", "val", "test")
    parts = {role: part(value, f"{spec}: {role}") for role, value in zip(roles, given, strict=True)}
    return Parts(parts["train"], parts.get("val"), parts["test"], class_names(given[0], parts["train"]))


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(cast(Any, value))}"
    return "None" if value is None else f"a {type(value).__name__}"


def part(value: Any, where: str) -> ImageSplit:
    """One part of the data, checked: a pair (images, labels) of arrays, or a map-style Dataset. Raises DataError."""
    if isinstance(value, TensorDataset):
        value = value.tensors
    if isinstance(value, (tuple, list)):
        pair = list[Any](cast(Any, value))
        if len(pair) != 2:
            raise DataError(f"{where} is {_kind(cast(object, value))}; return a pair (images, labels)")
        pixels = to_pixels(pair[0], where)
        return Split.of_pixels(pixels, to_labels(pair[1], len(pixels), where))
    if (
        isinstance(value, IterableDataset)
        or not hasattr(value, "__getitem__")
        or not hasattr(value, "__len__")
    ):
        raise DataError(f"{where} is {_kind(value)}; {_remedy(value)}")
    if isinstance(value, Mapping):
        keys = ", ".join(str(key) for key in list(cast("Mapping[Any, Any]", value))[:6])
        raise DataError(
            f"{where} is a {type(value).__name__} with the keys {keys}; {PART}, two of its values"
        )
    return _stream(value, where)


def _remedy(value: object) -> str:
    """What to return in place of `value`."""
    if isinstance(value, DataLoader):
        return "return the data set in it, loader.dataset: batches are made here"
    if isinstance(value, IterableDataset):
        return f"it has no len() and indices; {PART}"
    if callable(value) and not hasattr(value, "__len__"):
        return "call it and give what it returns, or name it as package.module:function"
    return PART


def _stream(items: Items, where: str) -> StreamSplit:
    count = len(items)
    if count == 0:
        raise DataError(f"{where} is empty; add images")
    c, h, w = _item(items, 0, where)[0]
    labels = _listed_labels(items, where)
    if labels is None:
        # There is no reliable list of labels. Stratified splits need one, so every item is read once.
        labels = torch.tensor([_item(items, index, where)[1] for index in range(count)], dtype=torch.int64)
    split = StreamSplit(items, torch.arange(count), labels, (c, h, w), where)
    _check_constant(split)
    return split


def _check_constant(split: StreamSplit) -> None:
    """Raise DataError if some images or labels are others when they are read again."""
    positions = cast("list[int]", torch.linspace(0, len(split) - 1, min(8, len(split))).long().tolist())
    if not torch.equal(split.read(positions), split.read(positions)):
        raise DataError(
            f"{split.name}: the Dataset gives other pixels each time; leave random transforms out of it: what is "
            "trained, scored and resumed must be the same images"
        )


def _item(items: Items, index: int, where: str) -> tuple[tuple[int, int, int], int]:
    try:
        item = items[index]
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{where}: item {index} cannot be read ({where_raised(error)}); fix the data set"
        ) from error
    image, label = pair_of(item, f"{where}: item {index}")
    h, w, c = item_image(image, f"{where}: item {index}").shape
    return (c, h, w), item_label(label, f"{where}: item {index}")


def _listed_labels(items: Items, where: str) -> Tensor | None:
    """Return the data set's own list of labels, if it has one and a sample of its items agrees with it."""
    listed = getattr(items, "targets", getattr(items, "labels", None))
    try:
        labels = to_labels(listed, len(items), where)
    except DataError:
        return None
    checked = torch.linspace(0, len(items) - 1, min(_SPOT_CHECKS, len(items))).long().unique()
    return labels if all(_item(items, i, where)[1] == int(labels[i]) for i in checked.tolist()) else None


def class_names(given: Any, train: ImageSplit) -> tuple[str, ...]:
    """The names of the classes where `given`, which became `train`, has them, else numbers. Raises DataError."""
    count = int(train.labels.max()) + 1
    if count > len(train):
        raise DataError(
            f"label {count - 1} with {len(train)} training images; number the classes 0 … K-1 without gaps"
        )
    names = getattr(given, "classes", None)
    if isinstance(names, (tuple, list)) and len(cast(Any, names)) == count:
        return tuple(wellformed(str(name)) for name in cast(list[Any], names))
    return tuple(str(number) for number in range(count))
