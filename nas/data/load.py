"""Loading of the splits that the text after `--data` names.

The test split is the published one, the user's, or (digits; a folder without test/) held out with a constant
seed, so that it is the same in all runs. The validation split is the user's, or held out of the rest with the
run's seed. Both are stratified.
"""

from __future__ import annotations

import difflib
import os
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from nas.base.errors import DataError
from nas.data import custom, folder, run_arrays
from nas.data.published import STANDARD, TEN, StandardSet
from nas.data.splits import VAL_FRACTION, check_labels, digest, hold_out, mean_std, sample
from nas.data.types import Augment, ImageSplit, SearchData, Split, StreamSplit

DATASETS = MappingProxyType(
    {
        "digits": "8x8 grey handwritten digits, 10 classes, 1797 images; comes with scikit-learn",
        "mnist": "28x28 grey handwritten digits, 10 classes, 60,000 + 10,000 images",
        "fashion-mnist": "28x28 grey articles of clothing, 10 classes, 60,000 + 10,000 images",
        "cifar10": "32x32 colour photographs, 10 classes, 50,000 + 10,000 images",
        "cifar100": "32x32 colour photographs, 100 classes, 50,000 + 10,000 images",
        "svhn": "32x32 colour house numbers, 10 classes, 73,257 + 26,032 images",
        "imagefolder:PATH": "your images, one folder per class, or train/ val/ test/ with such folders",
        "package.module:function": "your function, returning (train, test) or (train, val, test)",
    }
)

TEST_SEED = 0  # not the run's seed: held-out test splits are the same in all runs
TEST_FRACTION = 0.25


def default_root() -> Path:
    """Return $NAS_DATA, or ~/.cache/nas/data if that is not set."""
    return Path(os.path.expanduser(os.environ.get("NAS_DATA") or "~/.cache/nas/data"))


def load_search_data(
    spec: str, root: Path | None, seed: int, val_fraction: float = VAL_FRACTION
) -> SearchData:
    """Load the training and validation split of a data set, and nothing else of it.

    spec:         a key of DATASETS, with PATH or package.module:function filled in.
    root:         the folder of the published sets, in torchvision's layout; None is `default_root()`. For arrays that
                  were given in Python: the folder of the run that keeps them.
    seed:         draws the validation split if the set does not have one.
    val_fraction: fraction of each class that becomes validation data, between 0 and 1.
    Raises DataError: one line with fact, place and remedy. A failure changes nothing on disk.
    """
    if not 0 < val_fraction < 1:
        raise DataError(
            f"validation fraction {val_fraction} is not between 0 and 1; use {VAL_FRACTION}, for example"
        )
    rest, given_val, classes, augment = _search_parts(spec, _root(root))
    check_labels(rest, rest, len(classes), spec)
    if given_val is None:
        train, val = hold_out(rest, val_fraction, seed, "validation")
    else:
        check_labels(rest, given_val, len(classes), f"{spec}: validation")
        train, val = rest, given_val
    train, val = _apart(train), _apart(val)
    seen = sample(train)
    mean, std = mean_std(seen)
    return SearchData(
        name=spec, train=train, val=val, classes=classes, mean=mean, std=std, augment=augment,
        digest=digest((train, seen), (val, sample(val)), classes),
    )  # fmt: skip


def load_test_split(spec: str, root: Path | None, seed: int) -> ImageSplit:
    """Load the test split, for the final step of a run. `seed` is the run's; it has no effect yet.

    Arguments and errors as in `load_search_data`.
    """
    del seed
    kind, argument = _kind(spec)
    if kind == "digits":
        return hold_out(_digits(), TEST_FRACTION, TEST_SEED, "test")[1]
    if kind == "imagefolder":
        parts = folder.open_folder(argument)
        return _apart(parts.test or hold_out(parts.train, TEST_FRACTION, TEST_SEED, "test")[1])
    if kind == "function":
        return custom.call(spec).test
    if kind == "arrays":
        given = run_arrays.read_kept(_root(root), spec)
        return given.test or hold_out(given.train, TEST_FRACTION, TEST_SEED, "test")[1]
    return _standard(kind).load("test", _root(root))


def is_kept(spec: str) -> bool:
    """Whether the data are arrays that were given in Python, and lie in the run's folder."""
    return spec.startswith(run_arrays.PREFIX)


def runs_code(spec: str) -> bool:
    """Whether loading this data set runs code of the user's."""
    return ":" in spec and not spec.startswith(("imagefolder:", run_arrays.PREFIX))


_Parts = tuple[ImageSplit, ImageSplit | None, tuple[str, ...], Augment]


def _search_parts(spec: str, root: Path) -> _Parts:
    """Return (train, or train and validation together; validation if given; class names; augmentation)."""
    kind, argument = _kind(spec)
    if kind == "digits":
        return (
            hold_out(_digits(), TEST_FRACTION, TEST_SEED, "test")[0],
            None,
            TEN,
            Augment(flip=False, crop=1),
        )
    if kind == "imagefolder":
        parts = folder.open_folder(argument)
        rest = parts.train if parts.test else hold_out(parts.train, TEST_FRACTION, TEST_SEED, "test")[0]
        if parts.test:
            check_labels(parts.train, parts.test, len(parts.classes), f"{spec}: test")
        return rest, parts.val, parts.classes, Augment(flip=True, crop=min(parts.train.shape[1:]) // 8)
    if kind == "function":
        given = custom.call(spec)
        check_labels(given.train, given.test, len(given.classes), f"{spec}: test")
        # The content of the images is unknown, so no augmentation is known to be harmless.
        return given.train, given.val, given.classes, Augment(flip=False, crop=0)
    if kind == "arrays":
        held = run_arrays.read_kept(root, spec)
        rest = held.train if held.test else hold_out(held.train, TEST_FRACTION, TEST_SEED, "test")[0]
        return rest, held.val, held.classes, Augment(flip=False, crop=0)
    found = _standard(kind)
    return found.load("train", root), None, found.classes(root), found.augment


def _apart(split: ImageSplit) -> ImageSplit:
    return folder.own_files(split) if isinstance(split, StreamSplit) else split


def _standard(kind: str) -> StandardSet:
    return next(known for known in STANDARD if known.name == kind)


def _root(root: Path | None) -> Path:
    chosen = Path(os.path.expanduser(root)) if root is not None else default_root()
    if chosen.exists() and not chosen.is_dir():
        raise DataError(f"data root {chosen} is not a folder; name a folder with --data-root or NAS_DATA")
    return chosen


def _kind(spec: str) -> tuple[str, str]:
    """("digits" or a published set's name or "imagefolder", "arrays" or "function", the rest of the spec)."""
    if spec == "digits" or any(spec == known.name for known in STANDARD):
        return spec, ""
    head, colon, rest = spec.partition(":")
    if f"{head}{colon}" in ("imagefolder:", run_arrays.PREFIX):
        return head, rest
    if colon and rest.isidentifier() and all(part.isidentifier() for part in head.split(".")):
        return "function", rest
    simple = [name for name in DATASETS if ":" not in name]
    if spec and os.path.isdir(os.path.expanduser(spec)):
        hint = f"to use the images in that folder, write imagefolder:{spec}"
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
