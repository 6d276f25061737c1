"""What is given as `data=` in Python: what is understood, what is refused, how it is kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from nas.base.errors import DataError
from nas.data import load_search_data, load_test_split, run_arrays
from nas.data.run_arrays import KeptParts, parts_of, read_kept, write_kept
from nas.data.types import Split

LABELS = np.arange(40) % 2
IMAGES = (np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8))).astype(np.uint8)


class Pictures(Dataset[Any]):
    """A map-style data set with names for its classes."""

    classes = ("cat", "dog")

    def __init__(self, noise: bool = False) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> Any:
        image = torch.from_numpy(IMAGES[index]).float() / 255
        return (torch.rand_like(image) if self.noise else image), int(LABELS[index])


def same(one: Split | None, other: Split | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.pixels, other.pixels) and torch.equal(one.labels, other.labels)


@pytest.mark.parametrize(
    "given",
    [
        (IMAGES, LABELS),
        [IMAGES, LABELS],
        (torch.from_numpy(IMAGES).float() / 255, torch.from_numpy(LABELS)),
        (IMAGES.transpose(0, 2, 3, 1), LABELS.tolist()),
        TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
        Pictures(),
        ((IMAGES, LABELS),),
    ],
)
def test_one_set_is_split_and_in_whatever_form_the_same(given: Any) -> None:
    found = parts_of(given)
    assert (found.val, found.test) == (None, None)
    assert same(found.train, parts_of((IMAGES, LABELS)).train)


@pytest.mark.parametrize("make", [lambda: (IMAGES, LABELS), Pictures])
def test_two_parts_are_training_and_validation_and_a_third_is_the_test(make: Any) -> None:
    two, three = (
        parts_of((make(), (IMAGES[:10], LABELS[:10]))),
        parts_of([make(), make(), (IMAGES[:6], LABELS[:6])]),
    )
    assert two.val is not None
    assert len(two.val) == 10
    assert two.test is None
    assert three.test is not None
    assert len(three.test) == 6
    assert two.name != three.name


def test_two_pictures_are_a_pair_of_arrays_and_not_two_splits() -> None:
    assert len(parts_of((IMAGES[:2], LABELS[:2])).train) == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((IMAGES, LABELS[:3]), "train"),
        (((IMAGES, LABELS), (IMAGES[:5], LABELS[:5] + 7)), "val"),
        (((IMAGES, LABELS),) * 4, "4 parts"),
        (IMAGES, "ndarray"),
        (42, "int"),
        ((IMAGES.astype(np.float32), LABELS), "float32"),
        (Pictures(noise=True), "Dataset"),
        ((IMAGES, np.zeros(40, dtype=int)), "class"),
    ],
)
def test_what_makes_no_sense_is_refused(given: Any, named: str) -> None:
    with pytest.raises(DataError, match=named):
        parts_of(given)


@pytest.mark.parametrize("given", [(IMAGES, LABELS), Pictures()])
def test_what_is_too_large_is_refused_with_the_way_out(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_arrays, "MAX_BYTES", IMAGES.nbytes - 1)
    with pytest.raises(DataError, match="module:function"):
        parts_of(given)


def test_what_is_kept_is_read_back_as_it_was_and_leads_a_search(tmp_path: Path) -> None:
    found = parts_of((Pictures(), Pictures()))
    path = write_kept(tmp_path / "run", found)
    assert [entry.name for entry in path.parent.iterdir()] == [run_arrays.FILE]
    back = read_kept(path.parent, found.name)
    assert back.classes == ("cat", "dog")
    assert same(back.train, found.train)
    assert same(back.val, found.val)
    data = load_search_data(found.name, path.parent, 0)
    test = load_test_split(found.name, path.parent, 0)
    assert data.val is not None
    assert len(data.train) + len(test) == 40
    assert len(data.val) == 40
    assert data.classes == ("cat", "dog")


def test_a_file_that_is_another_is_noticed(tmp_path: Path) -> None:
    found = parts_of((IMAGES, LABELS))
    with pytest.raises(DataError):
        read_kept(tmp_path, found.name)
    write_kept(tmp_path, KeptParts(found.train, None, None, ("a", "b")))
    with pytest.raises(DataError, match=found.name):
        read_kept(tmp_path, found.name)
