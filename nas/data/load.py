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
from nas.data.hashes import NONE, Known
from nas.data.published import STANDARD, TEN, StandardSet
from nas.data.splits import VAL_FRACTION, check_labels, digest, hold_out, mean_std, sample
from nas.data.types import Augment, ImageSplit, Parts, SearchData, Split, StreamSplit

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
    spec: str,
    root: Path | None,
    seed: int,
    val_fraction: float = VAL_FRACTION,
    augment: str | None = None,
    known: Known = NONE,
) -> SearchData:
    """Load the training and validation split of a data set, and nothing else of it.

    spec:         a key of DATASETS, with PATH or package.module:function filled in.
    root:         the folder of the published sets, in torchvision's layout; None is `default_root()`. For arrays that
                  were given in Python: the folder of the run that keeps them.
    seed:         draws the validation split if the set does not have one.
    val_fraction: fraction of each class that becomes validation data, between 0 and 1.
    augment:      the training images' augmentation, as `Augment.parse` takes it; None is the data set's own.
    known:        hashes of files that need not be read again.
    Raises DataError: one line with fact, place and remedy. A failure changes nothing on disk.
    """
    if not 0 < val_fraction < 1:
        raise DataError(
            f"validation fraction {val_fraction} is not between 0 and 1; use {VAL_FRACTION}, for example"
        )
    rest, given_val, classes, own = _search_parts(spec, _root(root))
    check_labels(rest, rest, len(classes), spec)
    if given_val is None:
        train, val = hold_out(rest, val_fraction, seed, "validation")
    else:
        check_labels(rest, given_val, len(classes), f"{spec}: validation")
        train, val = rest, given_val
    train, val = folder.with_hashes(_apart(train), known), folder.with_hashes(_apart(val), known)
    chosen = own if augment is None else _checked(Augment.parse(augment), train.shape)
    seen, seen_val = sample(train), sample(val)
    mean, std = mean_std(seen)
    return SearchData(
        name=spec, train=train, val=val, classes=classes, mean=mean, std=std, augment=chosen,
        digest=digest((train, seen), (val, seen_val), classes),
        former=digest((train, seen), (val, seen_val), classes, "former_fingerprint"),
    )  # fmt: skip


def load_test_split(spec: str, root: Path | None, seed: int) -> ImageSplit:
    """Load the test split, for the final step of a run. `seed` is the run's; it has no effect yet.

    Arguments and errors as in `load_search_data`.
    """
    del seed
    kind, argument = _kind(spec)
    if (found := _standard(kind)) is not None:
        return found.load("test", _root(root))
    return _apart(_without_test(_parts(kind, argument, _root(root)))[1])


def is_kept(spec: str) -> bool:
    """Whether the data are arrays that were given in Python, and lie in the run's folder."""
    return spec.startswith(run_arrays.PREFIX)


def runs_code(spec: str) -> bool:
    """Whether loading this data set runs code of the user's."""
    return ":" in spec and not spec.startswith(("imagefolder:", run_arrays.PREFIX))


def _search_parts(spec: str, root: Path) -> tuple[ImageSplit, ImageSplit | None, tuple[str, ...], Augment]:
    """Return (train, or train and validation together; validation if given; class names; augmentation)."""
    kind, argument = _kind(spec)
    if (found := _standard(kind)) is not None:
        return found.load("train", root), None, found.classes(root), found.augment
    parts = _parts(kind, argument, root)
    if parts.test is not None:
        check_labels(parts.train, parts.test, len(parts.classes), f"{spec}: test")
    return _without_test(parts)[0], parts.val, parts.classes, _augment(kind, parts.train)


def _parts(kind: str, argument: str, root: Path) -> Parts:
    """All of a data set that is not published in parts."""
    match kind:
        case "digits":
            return Parts(_digits(), None, None, TEN)
        case "imagefolder":
            return folder.open_folder(argument)
        case "function":
            return custom.call(argument)
        case _:
            kept = run_arrays.read_kept(root, argument)
            return Parts(kept.train, kept.val, kept.test, kept.classes)


def _without_test(parts: Parts) -> tuple[ImageSplit, ImageSplit]:
    """Return the training images and the test split, which is held out of them if there is none."""
    if parts.test is not None:
        return parts.train, parts.test
    return hold_out(parts.train, TEST_FRACTION, TEST_SEED, "test")


def _augment(kind: str, train: ImageSplit) -> Augment:
    if kind == "imagefolder":
        return Augment(flip=True, crop=min(train.shape[1:]) // 8)
    # The content of a user's images is unknown, so no augmentation is known to be harmless.
    return Augment(flip=False, crop=1 if kind == "digits" else 0)


def _checked(augment: Augment, shape: tuple[int, int, int]) -> Augment:
    most = min(shape[1:]) - 1  # borders are filled by reflection
    if augment.crop > most:
        raise DataError(
            f"augment: crop={augment.crop} is too far for images of {list(shape)}; use at most {most}"
        )
    return augment


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
    if f"{head}{colon}" in ("imagefolder:", run_arrays.PREFIX):
        return head, rest if head == "imagefolder" else spec
    if colon and rest.isidentifier() and all(part.isidentifier() for part in head.split(".")):
        return "function", spec
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
