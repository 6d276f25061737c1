"""Vectors, sequences, CSV files and npz files: what becomes an input, and that it is fitted to training rows alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from nas.base.errors import DataError
from nas.data import ValueSplit, eval_batches, load_search_data, load_test_split, train_batches
from nas.data.csv_file import fitted, open_csv
from nas.data.run_arrays import parts_of, read_kept, write_kept
from nas.data.table import Column, encode, read_csv
from nas.data.types import SearchData

TEXT = ["size;kind;note;price", *(f"{i};{'ab'[i % 2]};n{i};{i * 1.5}" for i in range(60))]


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def write(lines: list[str]) -> Path:
        path = tmp_path / "rows.csv"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def inputs(data: SearchData, role: str) -> torch.Tensor:
    split = getattr(data, role)
    assert isinstance(split, ValueSplit)
    return split.inputs


def test_columns_are_fitted_to_the_training_rows(table: Any) -> None:
    spec = f"csv:{table(TEXT)}?target=price"
    data, test = load_search_data(spec, None, 0, 0.2), load_test_split(spec, None, 0, None, 0.2)
    assert data.table is not None
    assert [column.name for column in data.table] == ["size", "kind"]  # each row has another note
    assert (len(data.train), len(data.val), len(test), data.input_shape) == (34, 8, 18, (3,))
    train = inputs(data, "train").double()
    assert train[:, 0].mean().abs() < 1e-6
    assert train[:, 0].std(correction=0) == pytest.approx(1)
    sizes = data.train.labels[:, 0].double() / 1.5
    assert data.table[0].mean == pytest.approx(float(sizes.mean()))
    assert isinstance(test, ValueSplit)
    expected = (test.labels[:, 0] / 1.5 - data.table[0].mean) / data.table[0].std
    torch.testing.assert_close(test.inputs[:, 0], expected)
    assert torch.equal(train[:, 1:].sum(1), torch.ones(34, dtype=torch.float64))
    assert (data.task.name, data.classes, data.task.main) == ("regression", ("price",), "min rmse")
    other = load_search_data(spec, None, 1, 0.2)
    assert other.digest != data.digest


def test_batches_of_rows_are_the_encoded_ones(table: Any) -> None:
    data = load_search_data(f"csv:{table(TEXT)}?target=price", None, 0)
    (x, y), *_ = eval_batches(data.val, 100, data.mean, data.std)
    assert torch.equal(x, inputs(data, "val"))
    assert torch.equal(y, data.val.labels)
    shuffled = train_batches(data.train, 64, torch.Generator(), data.mean, data.std, data.augment)
    x, y = next(shuffled)
    assert (list(x.shape), list(y.shape), x.dtype) == ([64, 3], [64, 1], torch.float32)


def test_missing_values_and_unknown_texts() -> None:
    columns = (Column("n", 10, 2, gaps=True), Column("k", categories=("a", "b")), Column("m", 1, 1))
    rows = [["14", "b", "1"], ["", "c", "NA"], ["10", "", "3"]]
    assert encode(["n", "k", "m"], rows, columns) == [
        [2, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 2]
    ]  # fmt: skip
    assert [column.places for column in columns] == [2, 2, 1]
    with pytest.raises(ValueError, match=r'row 1: .*column "n" is not a number'):
        encode(["k", "m", "n"], [["a", "1", "much"]], columns)
    with pytest.raises(ValueError, match='no column "m"'):
        encode(["n", "k"], [["1", "a"]], columns)


def test_gaps_are_those_of_the_training_rows(table: Any) -> None:
    lines = ["x,c,y", *(f"{'' if i % 5 == 0 else i},{'same'},{i % 3}" for i in range(90)), "7,same,"]
    opened = open_csv(f"{table(lines)}?target=y", None)
    assert opened.classes == ("0", "1", "2")
    assert "1 row without a target" in opened.notes[0]
    (column,) = fitted(opened.rows)  # a column with one value is left out
    assert (column.name, column.gaps) == ("x", True)
    assert column.mean == pytest.approx(np.mean([i for i in range(90) if i % 5]))


@pytest.mark.parametrize(
    ("target", "task", "expected"),
    [
        ("word", None, ("classification", ("no", "yes"))),
        ("few", None, ("classification", ("0", "1", "2", "10"))),
        ("few", "regression", ("regression", ("few",))),
        ("many", None, ("regression", ("many",))),
        ("word", "balanced", ("balanced", ("no", "yes"))),
        ("one,two", None, ("multi-label", ("one", "two"))),
        ("one,many", None, ("regression", ("one", "many"))),
    ],
)
def test_the_kind_of_the_target_is_the_task(table: Any, target: str, task: str | None, expected: Any) -> None:
    few = (0, 1, 2, 10)
    rows = [f"{i},{'yes' if i % 3 else 'no'},{few[i % 4]},{i * 7},{i % 2},{i // 3 % 2}" for i in range(80)]
    path = table(["x,word,few,many,one,two", *rows])
    data = load_search_data(f"csv:{path}?target={target}", None, 0, task=task)
    assert (data.task.name, data.classes) == expected
    assert data.outputs == len(data.classes)


BAD: dict[str, tuple[list[str], str, str | None]] = {
    "name the column to predict": (TEXT, "", None),
    'no column "cost"': (TEXT, "?target=cost", None),
    '"size=3" is not known': (TEXT, "?size=3", None),
    "line 3 has 2 cells": (["a,b,y", "1,2,3", "1,2"], "?target=y", None),
    "called": (["a,a,y", "1,2,3"], "?target=y", None),
    "no row below": (["a,b,y"], "?target=y", None),
    "is not a number": (
        ["a,y", *(f"{i},{'n' if i == 7 else i}" for i in range(40))],
        "?target=y",
        "regression",
    ),
    "too many for classes": (["a,y", *(f"{i},t{i}" for i in range(40))], "?target=y", None),
    "no column besides the target": (["y", *map(str, range(40))], "?target=y", None),
}


@pytest.mark.parametrize("fact", BAD)
def test_what_is_refused(table: Any, fact: str) -> None:
    lines, query, task = BAD[fact]
    with pytest.raises(DataError, match=fact):
        load_search_data(f"csv:{table(lines)}{query}", None, 0, task=task)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for spec in (f"csv:{tmp_path}/none.csv?target=y", f"npz:{tmp_path}/none.npz"):
        with pytest.raises(DataError, match="can't be read"):
            load_search_data(spec, None, 0)


def test_spreadsheets_of_other_countries(table: Any) -> None:
    path = table(["﻿a;b", " 1 ; x y ", "", '"2;3";z'])
    assert read_csv(path) == (["a", "b"], [["1", "x y"], ["2;3", "z"]])


DRAW = np.random.default_rng(0)
VECTORS, SERIES = DRAW.normal(5, 3, (60, 4)), DRAW.normal(0, 9, (60, 2, 16))
LABELS = np.arange(60) % 3


@pytest.mark.parametrize("x", [VECTORS, SERIES, VECTORS.astype(np.float32), (VECTORS * 9).astype(np.int8)])
def test_arrays_of_any_shape(tmp_path: Path, x: np.ndarray) -> None:
    kept = parts_of((x, LABELS))
    write_kept(tmp_path, kept)
    assert read_kept(tmp_path, kept.name).name == kept.name
    data = load_search_data(kept.name, tmp_path, 0)
    assert data.input_shape == x.shape[1:]
    assert len(data.mean) == x.shape[1]
    batch = torch.cat([x for x, _ in eval_batches(data.train, 7, data.mean, data.std)])
    channels = batch.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(x.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(x.shape[1]), atol=1e-5, rtol=0)


def test_zeros_and_ones_are_left_as_they_are(tmp_path: Path) -> None:
    x = np.stack([LABELS == 0, VECTORS[:, 0], np.full(60, 4.0)], 1)
    kept = parts_of((x, LABELS))
    write_kept(tmp_path, kept)
    data = load_search_data(kept.name, tmp_path, 0)
    assert (data.mean[0], data.std[0], data.mean[2], data.std[2]) == (0, 1, 4, 1)


@pytest.mark.parametrize("x", [VECTORS, SERIES])
def test_a_dataset_of_rows_is_the_same_as_its_arrays(x: np.ndarray) -> None:
    class Items:
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return x[index], float(LABELS[index])

    given = TensorDataset(torch.from_numpy(x), torch.from_numpy(LABELS).double())
    plain = parts_of((x, LABELS / 1))
    assert parts_of(given).name == parts_of(Items()).name == plain.name
    assert plain.classes == ("value",)


def test_arrays_in_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", X=VECTORS, y=LABELS)
    data = load_search_data(f"npz:{tmp_path}/whole.npz", None, 0)
    assert (len(data.train) + len(data.val), data.input_shape) == (45, (4,))
    np.savez(tmp_path / "parts.npz", x_train=SERIES, y_train=LABELS / 2, x_test=SERIES[:9], y_test=LABELS[:9])
    spec = f"npz:{tmp_path}/parts.npz"
    data, test = load_search_data(spec, None, 0), load_test_split(spec, None, 0)
    assert (len(test), data.task.name, data.input_shape) == (9, "regression", (2, 16))
    assert test.labels.shape == (9, 1)
    for settings, fact in (("tokens=100", "tokens"), ("size=8", "size=8")):
        with pytest.raises(DataError, match=fact):
            load_search_data(f"npz:{tmp_path}/whole.npz?{settings}", None, 0)
    np.savez(tmp_path / "odd.npz", a=SERIES)
    with pytest.raises(DataError, match="call the arrays x and y"):
        load_search_data(f"npz:{tmp_path}/odd.npz", None, 0)


def test_what_rows_do_not_take(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NaN"):
        parts_of((np.where(VECTORS > 9, np.nan, VECTORS), LABELS))
    np.savez(tmp_path / "whole.npz", x=VECTORS, y=LABELS)
    with pytest.raises(DataError, match="is for images"):
        load_search_data(f"npz:{tmp_path}/whole.npz", None, 0, augment="flips=true")
