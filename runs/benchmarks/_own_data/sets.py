"""Small data sets as files, as somebody would have them: folders of PNG, tables of CSV, arrays of NPZ.

A seed draws its own examples: another order of rows or names, which is another test split, other images of a published
set, other numbers of a set that is made up. Five seeds on the same 45 test rows would tell no more than one.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn import datasets

from nas.data import Split, load_search_data, load_test_split

TESTED = 2000  # test images of a published set


Make = Callable[[Path, Path | None, int], str]


@dataclass(frozen=True)
class DataSet:
    """make: writes a seed's files into an empty folder, given the root of the published sets; returns the text for
    --data.

    what: for people. table: or images.
    """

    name: str
    what: str
    make: Make
    table: bool = False


def _digits(folder: Path, root: Path | None, seed: int) -> str:
    found: Any = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(found.images))
    for number, (image, label) in enumerate(zip(found.images[order], found.target[order], strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray((image * 15.9375).astype(np.uint8)).save(folder / str(label) / f"{number:04}.png")
    return f"imagefolder:{folder}"


def _table(load: Callable[[int], tuple[Any, Any]]) -> Make:
    def make(folder: Path, root: Path | None, seed: int) -> str:
        x, y = load(seed)
        order = np.random.default_rng(seed).permutation(len(x))
        x, y = x[order], y[order]
        file = folder / "table.csv"
        with file.open("w", newline="") as text:
            rows = csv.writer(text)
            rows.writerow([*(f"x{number}" for number in range(x.shape[1])), "y"])
            rows.writerows(
                [*map(repr, map(float, row)), label] for row, label in zip(x, y.tolist(), strict=True)
            )
        return f"csv:{file}?target=y"

    return make


def _some(name: str, count: int) -> Make:
    def make(folder: Path, root: Path | None, seed: int) -> str:
        rest, test = load_search_data(name, root, 0).train, load_test_split(name, root, 0)
        assert isinstance(rest, Split)
        assert isinstance(test, Split)
        chosen = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:count]
        first = TESTED * seed % len(test)
        parts = {"train": rest.subset(chosen), "test": test.subset(torch.arange(first, first + TESTED))}
        arrays = {f"x_{role}": part.pixels.numpy() for role, part in parts.items()}
        np.savez(
            folder / "images.npz",
            **arrays,
            **{f"y_{role}": part.labels.numpy() for role, part in parts.items()},
        )
        return f"npz:{folder / 'images.npz'}"

    return make


def _friedman(seed: int) -> tuple[Any, Any]:
    return datasets.make_friedman1(1000, noise=1.0, random_state=seed)


def _loaded(name: str) -> Callable[[int], tuple[Any, Any]]:
    return lambda _: getattr(datasets, f"load_{name}")(return_X_y=True)


_ALL: Sequence[DataSet] = (
    DataSet("digits", "1,797 digits of 8 × 8 as PNG folders, 10 classes", _digits),
    DataSet("wine", "178 rows of 13 numbers, 3 classes", _table(_loaded("wine")), True),
    DataSet("breast-cancer", "569 rows of 30 numbers, 2 classes", _table(_loaded("breast_cancer")), True),
    DataSet("diabetes", "442 rows of 10 numbers, a value", _table(_loaded("diabetes")), True),
    DataSet("friedman", "1,000 rows of 10 numbers, a value: Friedman's first function", _table(_friedman), True),
    DataSet("fashion-300", "300 articles of clothing, 10 classes", _some("fashion-mnist", 300)),
    DataSet("fashion-3000", "3,000 of them", _some("fashion-mnist", 3000)),
    DataSet("fashion-30000", "30,000 of them", _some("fashion-mnist", 30_000)),
    DataSet("cifar-1000", "1,000 photographs, 10 classes", _some("cifar10", 1000)),
)  # fmt: skip
SETS: Mapping[str, DataSet] = MappingProxyType({each.name: each for each in _ALL})


def spec_of(data: DataSet, folder: Path, root: Path | None, seed: int) -> str:
    """What --data takes; the files are made once."""
    place, note = folder / f"{data.name}-{seed}", folder / f"{data.name}-{seed}.txt"
    if not note.exists():
        place.mkdir(parents=True, exist_ok=True)
        note.write_text(data.make(place, root, seed))
    return note.read_text()
