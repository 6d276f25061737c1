"""Loading of the splits that the text after `--data` names.

The test split is the published one, the user's, or (digits; a folder without test/) held out with a constant
seed, so that it is the same in all runs. The validation split is the user's, or held out of the rest with the
run's seed. Both are stratified.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from nas.base.errors import DataError
from nas.base.text import plural
from nas.data import csv_file, custom, folder, npz, run_arrays
from nas.data.augment import NONE as NO_CHANGE
from nas.data.augment import Augment, augment_of, described
from nas.data.check import Check, check_items, refuse
from nas.data.hashes import NONE, Known
from nas.data.picture import Reading
from nas.data.published import STANDARD, TEN, StandardSet
from nas.data.repeats import repeats
from nas.data.splits import VAL_FRACTION, check_labels, digest, hold_out, mean_std, sample
from nas.data.table import Column
from nas.data.task import Task, as_asked, task_of
from nas.data.tokens import holds_tokens
from nas.data.types import ImageSplit, Parts, SearchData, Split, StreamSplit, ValueSplit
from nas.ledger.scores import name_of

DATASETS = MappingProxyType(
    {
        "digits": "8x8 grey handwritten digits, 10 classes, 1797 images; comes with scikit-learn",
        "mnist": "28x28 grey handwritten digits, 10 classes, 60,000 + 10,000 images",
        "fashion-mnist": "28x28 grey articles of clothing, 10 classes, 60,000 + 10,000 images",
        "cifar10": "32x32 colour photographs, 10 classes, 50,000 + 10,000 images",
        "cifar100": "32x32 colour photographs, 100 classes, 50,000 + 10,000 images",
        "svhn": "32x32 colour house numbers, 10 classes, 73,257 + 26,032 images",
        "imagefolder:PATH": "your images, one folder per class, or train/ val/ test/ with such folders",
        "csv:FILE?target=NAME": "your table: numbers and categories, with a column to predict",
        "npz:FILE": "your arrays x and y: images, vectors [N, F], sequences [N, C, L] or tokens [N, T]",
        "package.module:function": "your function, returning (train, test) or (train, val, test)",
    }
)

FILES = ("imagefolder:", "csv:", "npz:")
TEST_SEED = 0  # not the run's seed: held-out test splits are the same in all runs
TEST_FRACTION = 0.25


def default_root() -> Path:
    """Return $NAS_DATA, or ~/.cache/nas/data if that is not set."""
    return Path(os.path.expanduser(os.environ.get("NAS_DATA") or "~/.cache/nas/data"))


def load_search_data(
    spec: str,
    root: Path | None,
    seed: int,
    val_fraction: float = VAL_FRACTION,
    augment: str | None = None,
    check: Check = "none",
    known: Known = NONE,
    task: str | None = None,
) -> SearchData:
    """Load the training and validation split of a data set, and nothing else of it.

    spec:         a key of DATASETS, with PATH or package.module:function filled in.
    root:         the folder of the published sets, in torchvision's layout; None is `default_root()`. For arrays that
                  were given in Python: the folder of the run that keeps them.
    seed:         draws the validation split if the set does not have one.
    val_fraction: fraction of each class that becomes validation data, between 0 and 1.
    augment:      see `augment_of`; None: as the data set declares.
    check:        whether every picture of a streamed set, also of its test split, is read once: "all" of them, "none",
                  or "auto": if that takes seconds. Unless "none", copies among a user's pictures are told.
    known:        hashes of files that need not be read again.
    task:         see `nas.data.task.task_of`.
    Raises DataError: one line with fact, place and remedy. A failure changes nothing on disk.
    """
    if not 0 < val_fraction < 1:
        raise DataError(
            f"validation fraction {val_fraction} is not between 0 and 1; use {VAL_FRACTION}, for example"
        )
    opened = _opened(spec, _root(root), check, task, (val_fraction, seed))
    rest, given_val, classes = opened.train, opened.val, opened.classes
    check_labels(rest, rest, len(classes), spec)
    if given_val is None:
        train, val = hold_out(rest, val_fraction, seed, "validation")
    else:
        check_labels(rest, given_val, len(classes), f"{spec}: validation")
        train, val = rest, given_val
    train, val = folder.with_hashes(_apart(train), known), folder.with_hashes(_apart(val), known)
    made = task_of(task, train.labels, classes)
    classes = made.outputs
    seen, seen_val = sample(train), sample(val)
    mean, std = mean_std(seen) if opened.table is None else scaled_already(train.shape[0])
    asked = augment_of(augment, opened.augment)
    if isinstance(train, ValueSplit):
        if asked != NO_CHANGE:
            raise DataError(f"augment: {augment} is for images, and these are {_noun(train)}; omit it")
    elif asked.crop >= min(train.shape[1:]):
        raise DataError(f"augment: {augment} shifts {_size(train)} images by too much; use less than a side")
    return SearchData(
        name=spec, train=train, val=val, classes=classes, mean=mean, std=std, augment=asked,
        digest=digest((train, seen), (val, seen_val), classes), reading=opened.reading or plain_reading(train.shape),
        notes=(
            _counted(opened, train, val), told(made, task), *_vocabulary_told(opened.tokens), *opened.notes,
            *(() if check == "none" or _standard(spec) else repeats(train, val, classes)),
            *(() if isinstance(train, ValueSplit) else (described(asked, augment),)),
        ),
        table=opened.table,
        former=digest((train, seen), (val, seen_val), classes, "former_fingerprint"), task=made,
        held_out=given_val is None or opened.table is not None, tokens=opened.tokens,
    )  # fmt: skip


def scaled_already(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of rows that are standardised as they are encoded."""
    return (0.0,) * count, (1.0,) * count


def load_test_split(
    spec: str, root: Path | None, seed: int, task: str | None = None, val_fraction: float = VAL_FRACTION
) -> ImageSplit:
    """Load the test split, for the final step of a run. `seed` is the run's; with `val_fraction` it decides the
    training rows of a CSV file, by which the test rows are scaled, and nothing else.

    Arguments and errors as in `load_search_data`.
    """
    kind, argument = _kind(spec)
    if kind == "csv":
        return _table(argument, task, (val_fraction, seed)).test
    if (found := _standard(kind)) is not None:
        return _with_targets(found.load("test", _root(root)), task, spec)
    return _apart(_without_test(_parts(kind, argument, _root(root), task=task))[1])


def is_kept(spec: str) -> bool:
    """Whether the data are arrays that were given in Python, and lie in the run's folder."""
    return spec.startswith(run_arrays.PREFIX)


def runs_code(spec: str) -> bool:
    """Whether loading this data set runs code of the user's."""
    return ":" in spec and not spec.startswith((*FILES, run_arrays.PREFIX))


@dataclass(frozen=True, eq=False)
class _Opened:
    """What a search may see of a data set. train: also the validation images, if `val` is None.

    test: the number of test images, None if they are not opened yet; held_out: whether they were training images.
    """

    train: ImageSplit
    val: ImageSplit | None
    classes: tuple[str, ...]
    augment: Augment
    reading: Reading | None = None
    notes: tuple[str, ...] = ()
    test: int | None = None
    held_out: bool = False
    table: tuple[Column, ...] | None = None
    tokens: int | None = None


@dataclass(frozen=True, eq=False)
class _Table:
    """The encoded splits of a CSV file."""

    train: ValueSplit
    val: ValueSplit
    test: ValueSplit
    columns: tuple[Column, ...]
    opened: csv_file.Opened


def _table(argument: str, task: str | None, drawn: tuple[float, int]) -> _Table:
    """Divide the rows of a CSV file, fit the columns to the training rows and encode all. drawn: see `_opened`."""
    opened = csv_file.open_csv(argument, task)
    rest, test = hold_out(opened.rows, TEST_FRACTION, TEST_SEED, "test")
    train, val = hold_out(rest, *drawn, "validation")
    columns = csv_file.fitted(train)
    split = [csv_file.encoded(rows, columns, f"csv:{argument}") for rows in (train, val, test)]
    return _Table(split[0], split[1], split[2], columns, opened)


def _opened(spec: str, root: Path, check: Check, task: str | None, drawn: tuple[float, int]) -> _Opened:
    """drawn: the fraction and the seed of the validation split, for rows that are encoded as the training rows say."""
    kind, argument = _kind(spec)
    if kind == "csv":
        table = _table(argument, task, drawn)
        seen = table.train, table.val, table.opened.classes
        notes = (*table.opened.notes, *_columns_told(table.columns))
        return _Opened(*seen, NO_CHANGE, None, notes, len(table.test), True, table.columns)
    if (found := _standard(kind)) is not None:
        train = _with_targets(found.load("train", root), task, spec)
        return _Opened(train, None, _names(found.classes(root), train), found.augment)
    parts = _parts(kind, argument, root, check, task)
    if parts.test is not None:
        check_labels(parts.train, parts.test, len(parts.classes), f"{spec}: test")
    rest, test = _without_test(parts)
    # The content of a user's images is unknown, so no augmentation is known to be harmless.
    augment = Augment(flip=False, crop=1 if kind == "digits" else 0)
    notes = (*parts.notes, *(_checked_items(spec, parts, check) if kind == "function" else ()))
    return _Opened(
        rest, parts.val, parts.classes, augment, parts.reading, notes, len(test), parts.test is None,
        tokens=parts.tokens,
    )  # fmt: skip


def _checked_items(spec: str, parts: Parts, check: Check) -> tuple[str, ...]:
    """Read all items of a user's Datasets, or a sample. Raises DataError, which names all that can't be read."""
    streams = [part for part in (parts.test, parts.val, parts.train) if isinstance(part, StreamSplit)]
    places = [(part, index) for part in streams for index in range(len(part))]
    names = [
        f"{part.name.removeprefix(f'{spec}: ')} item {int(part.indices[index])}" for part, index in places
    ]
    checked = check_items(names, lambda place: places[place][0].read([places[place][1]]), check)
    refuse(spec, checked.bad, len(places))
    return (f"checked {checked.skipped}; --check-data all checks every one",) if checked.skipped else ()


def _counted(opened: _Opened, train: ImageSplit, val: ImageSplit) -> str:
    """How many images there are, of which classes."""
    labels = torch.cat([train.labels, val.labels])
    held = " held out" if opened.held_out else ""
    test = "" if opened.test is None else f", {opened.test:,} for the test{held}"
    sizes = f"{len(train):,} {_noun(train)} to train on, {len(val):,} for validation{test}"
    if labels.dtype != torch.int64:
        return f"{sizes}; {plural(labels.shape[1], 'target value')} each, without the test: {_range(labels)}"
    counts = labels.bincount(minlength=len(opened.classes)).tolist()
    each = [f"{name} {number}" for name, number in zip(opened.classes, counts, strict=True)]
    told_of = ", ".join(each if len(each) <= 10 else [*each[:9], "…"])
    return f"{sizes}; {len(opened.classes)} classes, without the test: {told_of}"


def _range(values: torch.Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.6g} to {high:.6g}, {float(values.double().mean()):.6g} in the mean"


def told(task: Task, asked: str | None) -> str:
    """The task in one line, and whether the user or the targets decided it."""
    scores = [name_of(score.criterion).replace("_", " ") for score in task.scores]
    why = "" if asked is not None else " (by the kind of the targets; --task sets another)"
    return f"task: {task.name}{why}; scores {', '.join(scores)} and loss"


def _with_targets(split: Split, task: str | None, spec: str) -> Split:
    """A split of a set of classes, with targets as `task` takes them."""
    targets = as_asked(split.labels, task, spec)
    return split if targets is split.labels else replace(split, labels=targets)


def _names(classes: tuple[str, ...], train: ImageSplit) -> tuple[str, ...]:
    """The names of the outputs, of a set of `classes`."""
    return classes if train.labels.dtype == torch.int64 else ("value",)


def _noun(split: ImageSplit) -> str:
    """What the examples are, in the plural."""
    if not isinstance(split, ValueSplit):
        return "images"
    shape = split.shape
    if len(shape) == 1:
        return f"rows of {plural(shape[0], 'token' if holds_tokens(split) else 'number')}"
    return f"sequences of {plural(shape[0], 'channel')} and {plural(shape[1], 'step')}"


def _vocabulary_told(tokens: int | None) -> tuple[str, ...]:
    """How whole numbers are read, in one line."""
    if tokens is None:
        return ()
    return (f"tokens: {tokens:,} different ones, 0 to {tokens - 1:,}; give floats if they are quantities",)


def _columns_told(columns: Sequence[Column]) -> tuple[str, ...]:
    """What is done to the columns of a table, in one line."""
    kinds = [column for column in columns if column.categories is not None]
    gaps = sum(column.gaps for column in columns)
    said = [f"{plural(len(columns) - len(kinds), 'column')} of numbers, scaled to mean 0 and deviation 1"]
    said += [f"{plural(len(kinds), 'column')} of texts, a place for each text"] * bool(kinds)
    said += [f"missing values in {plural(gaps, 'column')}, each with a place that says so"] * bool(gaps)
    return (f"columns: {'; '.join(said)}; fitted to the training rows",)


def plain_reading(shape: tuple[int, ...]) -> Reading | None:
    """How a picture becomes an input of this shape (C, H, W), if nothing else is known; None if it can't."""
    if len(shape) != 3:
        return None
    c, h, w = shape
    return Reading(c, h, w) if c in (1, 3) else None


def _size(split: ImageSplit) -> str:
    _, h, w = split.shape
    return f"{h} × {w}"


def _parts(kind: str, argument: str, root: Path, check: Check = "none", task: str | None = None) -> Parts:
    """All of a data set that is not published in parts."""
    match kind:
        case "digits":
            digits = _with_targets(_digits(), task, kind)
            return Parts(digits, None, None, _names(TEN, digits))
        case "imagefolder":
            if task in ("multi-label", "regression"):
                raise DataError(
                    f"imagefolder: folders are classes, which --task {task} does not take; omit --task"
                )
            return folder.open_folder(argument, check)
        case "npz":
            return npz.open_npz(argument, task)
        case "function":
            return custom.call(argument, task)
        case _:
            kept = run_arrays.read_kept(root, argument)
            return Parts(kept.train, kept.val, kept.test, kept.classes, tokens=kept.tokens)


def _without_test(parts: Parts) -> tuple[ImageSplit, ImageSplit]:
    """Return the training images and the test split, which is held out of them if there is none."""
    if parts.test is not None:
        return parts.train, parts.test
    return hold_out(parts.train, TEST_FRACTION, TEST_SEED, "test")


def _apart(split: ImageSplit) -> ImageSplit:
    return folder.own_files(split) if isinstance(split, StreamSplit) else split


def _standard(kind: str) -> StandardSet | None:
    return next((known for known in STANDARD if known.name == kind), None)


def _root(root: Path | None) -> Path:
    chosen = Path(os.path.expanduser(root)) if root is not None else default_root()
    if chosen.exists() and not chosen.is_dir():
        raise DataError(f"data root {chosen} is not a folder; name a folder with --data-root or NAS_DATA")
    return chosen


def _kind(spec: str) -> tuple[str, str]:
    """("digits" or a published set's name or "imagefolder", "arrays" or "function", what opens it)."""
    if spec == "digits" or any(spec == known.name for known in STANDARD):
        return spec, ""
    head, colon, rest = spec.partition(":")
    if f"{head}{colon}" in (*FILES, run_arrays.PREFIX):
        return head, rest if f"{head}{colon}" in FILES else spec
    if colon and rest.isidentifier() and all(part.isidentifier() for part in head.split(".")):
        return "function", spec
    simple = [name for name in DATASETS if ":" not in name]
    if spec and os.path.isdir(os.path.expanduser(spec)):
        hint = f"to use the images in that folder, write imagefolder:{spec}"
    elif spec.lower().endswith(".csv") and os.path.isfile(os.path.expanduser(spec)):
        hint = f"to use the rows of that file, write csv:{spec}?target=COLUMN"
    elif spec.lower().endswith(".npz") and os.path.isfile(os.path.expanduser(spec)):
        hint = f"to use the arrays in that file, write npz:{spec}"
    elif near := difflib.get_close_matches(head.lower(), [*simple, "imagefolder"], n=2):
        hint = (
            "did you mean " + " or ".join("imagefolder:PATH" if n == "imagefolder" else n for n in near) + "?"
        )
    else:
        hint = "use one of " + ", ".join(DATASETS)
    raise DataError(f"unknown data set {spec!r}; {hint}")


def _digits() -> Split:
    table = _digits_table()
    # The file's grey levels are 0 … 16.
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return Split.of_pixels(torch.from_numpy(pixels), torch.from_numpy(table[:, -1].astype(np.int64)))


def _digits_table() -> np.ndarray:
    """Return scikit-learn's images and labels, [1797, 64 + 1].

    The file is read without importing scikit-learn, which takes two seconds in the driver and in each worker.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # this version of scikit-learn has the file elsewhere

    held: Any = load_digits()
    return np.column_stack([held.data, held.target])
