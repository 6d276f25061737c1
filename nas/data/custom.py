"""`package.module:function`: the user's own data.

The function takes no argument and returns (train, test) or (train, val, test). Each part is a pair (inputs, labels) of
arrays (see `nas.data.convert`), which is held in memory, or a map-style torch Dataset of (input, label) items, which is
streamed; vectors, sequences and tokens are held in memory. Labels are class numbers, or floats, or several numbers
each. Only names from the command line may be passed here, since importing a module runs its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from nas.base.errors import DataError
from nas.base.user_code import call_named, where_raised
from nas.data.convert import item_image, item_target, to_pixels, to_targets, to_values
from nas.data.task import as_asked
from nas.data.tokens import vocabulary
from nas.data.types import ImageSplit, Items, Parts, Split, StreamSplit, ValueSplit, pair_of
from nas.ledger.files import wellformed

_SPOT_CHECKS = 16
PART = "return (images, labels), or a torch Dataset with len() and indices"


def call(spec: str, task: str | None = None) -> Parts:
    """Import and call the function. task: see `nas.data.task.as_asked`. Raises DataError for any failure, with the
    place in the user's file.
    """
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
    parts = alike({role: part(v, f"{spec}: {role}", task) for role, v in zip(roles, given, strict=True)})
    names = class_names(given[0], parts["train"])
    return Parts(parts["train"], parts.get("val"), parts["test"], names, tokens=vocabulary(parts, None, spec))


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(cast(Any, value))}"
    return "None" if value is None else f"a {type(value).__name__}"


def part(value: Any, where: str, task: str | None = None) -> ImageSplit:
    """One part of the data, checked: a pair (images, labels) of arrays, or a map-style Dataset, with targets as `task`
    takes them. Raises DataError.
    """
    found = _part(value, where)
    targets = as_asked(found.labels, task, where)
    return found if targets is found.labels else replace(found, labels=targets)


P = TypeVar("P", bound=ImageSplit)


def alike(parts: dict[str, P]) -> dict[str, P]:
    """The parts, by role, with whole numbers as floats where those of the training part are floats."""
    train = parts["train"].labels
    if train.dtype == torch.int64 or train.shape[1] > 1:
        return parts
    return {
        role: replace(split, labels=split.labels.float()[:, None])
        if split.labels.dtype == torch.int64
        else split
        for role, split in parts.items()
    }


def _part(value: Any, where: str) -> ImageSplit:
    if isinstance(value, TensorDataset):
        value = value.tensors
    if isinstance(value, (tuple, list)):
        pair = list[Any](cast(Any, value))
        if len(pair) != 2:
            raise DataError(f"{where} is {_kind(cast(object, value))}; return a pair (images, labels)")
        values = to_values(pair[0], where)
        if values is not None:
            return ValueSplit(values, to_targets(pair[1], len(values), where))
        pixels = to_pixels(pair[0], where)
        return Split.of_pixels(pixels, to_targets(pair[1], len(pixels), where))
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


def _stream(items: Items, where: str) -> StreamSplit | ValueSplit:
    count = len(items)
    if count == 0:
        raise DataError(f"{where} is empty; add images")
    if (values := _values(items, where)) is not None:
        return values
    c, h, w = _item(items, 0, where)[0]
    labels = _listed_labels(items, where, c)
    if labels is None:
        # There is no reliable list of labels. Stratified splits need one, so every item is read once.
        labels = _together([_item(items, index, where, c)[1] for index in range(count)], where)
    split = StreamSplit(items, torch.arange(count), labels, (c, h, w), where)
    _check_constant(split)
    return split


def _together(targets: list[Tensor], where: str) -> Tensor:
    """The targets of all items; whole numbers among floats become floats. Raises DataError for unequal lengths."""
    if all(target.dtype == torch.int64 for target in targets):
        return torch.stack(targets)
    rows = [target.float().reshape(-1) for target in targets]
    if len({len(row) for row in rows}) > 1:
        raise DataError(
            f"{where}: items have {len(rows[0])} numbers as their label, and others; return equally many"
        )
    return torch.stack(rows)


def _values(items: Items, where: str) -> ValueSplit | None:
    """The vectors, sequences or tokens of a Dataset, all in memory; None where it has images. Raises DataError."""

    def read(index: int) -> tuple[Tensor | None, Any]:
        x, y = pair_of(_opened(items, index, where), f"{where}: item {index}")
        if not isinstance(x, Tensor):
            x = None if isinstance(x, Image) else np.asarray(x)
        return (None if x is None else to_values(x[None], f"{where}: item {index}")), y

    first = read(0)[0]
    if first is None:
        return None
    found = [read(index) for index in range(len(items))]
    unlike = next(
        (
            i
            for i, (x, _) in enumerate(found)
            if x is None or (x.shape, x.dtype) != (first.shape, first.dtype)
        ),
        None,
    )
    if unlike is not None:
        other = found[unlike][0]
        if other is not None and other.shape == first.shape:
            raise DataError(
                f"{where}: item {unlike} is of {other.dtype}, the first of {first.dtype}; give whole numbers as "
                "tokens, floats as quantities"
            )
        fact = f"{where}: item {unlike} has not the shape {list(first.shape[1:])} of the first"
        raise DataError(f"{fact}; make all items the same size")
    targets = _together(
        [item_target(y, f"{where}: item {index}") for index, (_, y) in enumerate(found)], where
    )
    return ValueSplit(torch.cat([x for x, _ in found if x is not None]), targets)


def _check_constant(split: StreamSplit) -> None:
    """Raise DataError if some images or labels are others when they are read again."""
    spread = cast("list[int]", torch.linspace(0, len(split) - 1, min(8, len(split))).long().tolist())
    positions = [position for position in spread if _is_readable(split.items, position)]
    if positions and not torch.equal(split.read(positions), split.read(positions)):
        raise DataError(
            f"{split.name}: the Dataset gives other pixels each time; leave random transforms out of it: what is "
            "trained, scored and resumed must be the same images"
        )


def _is_readable(items: Items, index: int) -> bool:
    """Whether an item can be read at all. If not, that is for the check of all items to say, which names every one."""
    try:
        items[index]
    except (Exception, SystemExit):
        return False
    return True


def _item(
    items: Items, index: int, where: str, channels: int | None = None
) -> tuple[tuple[int, int, int], Tensor]:
    image, label = pair_of(_opened(items, index, where), f"{where}: item {index}")
    h, w, c = item_image(image, f"{where}: item {index}", channels).shape
    return (c, h, w), item_target(label, f"{where}: item {index}")


def _opened(items: Items, index: int, where: str) -> Any:
    try:
        return items[index]
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{where}: item {index} cannot be read ({where_raised(error)}); fix the data set"
        ) from error


def _listed_labels(items: Items, where: str, channels: int) -> Tensor | None:
    """Return the data set's own list of labels, if it has one and a sample of its items agrees with it."""
    listed = getattr(items, "targets", getattr(items, "labels", None))
    try:
        labels = to_targets(listed, len(items), where)
    except DataError:
        return None
    checked = torch.linspace(0, len(items) - 1, min(_SPOT_CHECKS, len(items))).long().unique()
    return (
        labels
        if all(torch.equal(_item(items, i, where, channels)[1], labels[i]) for i in checked.tolist())
        else None
    )


def class_names(given: Any, train: ImageSplit) -> tuple[str, ...]:
    """The names of the classes, labels or values where `given`, which became `train`, has them, else numbers.

    Raises DataError.
    """
    whole = train.labels.dtype == torch.int64
    count = int(train.labels.max()) + 1 if whole else train.labels.shape[1]
    if whole and count > len(train):
        raise DataError(
            f"label {count - 1} with {len(train)} training images; number the classes 0 … K-1 without gaps"
        )
    names = getattr(given, "classes", None)
    if isinstance(names, (tuple, list)) and len(cast(Any, names)) == count:
        return tuple(wellformed(str(name)) for name in cast(list[Any], names))
    return ("value",) if count == 1 and not whole else tuple(str(number) for number in range(count))
