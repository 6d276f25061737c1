"""Whole numbers [N, T] are tokens: kept as they are, counted for a linear model; what is no token is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from nas.base.errors import DataError
from nas.data import ValueSplit, eval_batches, load_search_data, load_test_split, train_batches
from nas.data.augment import NONE
from nas.data.baseline import WORDS, baseline_scores
from nas.data.run_arrays import parts_of, read_kept, write_kept

DRAW = np.random.default_rng(0)
LABELS = np.arange(80) % 2
TOKENS = np.where(DRAW.random((80, 12)) < 0.7, DRAW.integers(4, 9, (80, 12)), LABELS[:, None])


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16])
def test_whole_numbers_are_tokens_and_stay_whole(tmp_path: Path, kind: Any) -> None:
    spec = saved(tmp_path / "data.npz", x=TOKENS.astype(kind), y=LABELS)
    data = load_search_data(spec, None, 0)
    assert (data.tokens, data.input_shape, data.mean, data.std) == (9, (12,), (), ())
    assert data.augment == NONE
    assert any("tokens: 9 different" in note for note in data.notes)
    x = torch.cat([x for x, _ in eval_batches(data.train, 7, data.mean, data.std, dtype=torch.float64)])
    assert isinstance(data.train, ValueSplit)
    assert x.dtype == torch.int64
    assert torch.equal(x, data.train.inputs)
    drawn = next(train_batches(data.train, 8, torch.Generator(), data.mean, data.std, data.augment))
    assert (drawn[0].dtype, drawn[0].shape) == (torch.int64, (8, 12))
    test = load_test_split(spec, None, 0)
    assert isinstance(test, ValueSplit)
    assert test.inputs.dtype == torch.int64


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int8, bool])
def test_floats_and_bytes_are_vectors(tmp_path: Path, kind: Any) -> None:
    data = load_search_data(saved(tmp_path / "data.npz", x=TOKENS.astype(kind), y=LABELS), None, 0)
    assert data.tokens is None
    assert len(data.mean) == 12


def test_arrays_a_dataset_and_a_file_are_the_same(tmp_path: Path) -> None:
    kept = parts_of((TOKENS, LABELS))
    assert kept.tokens == 9
    assert parts_of(TensorDataset(torch.from_numpy(TOKENS), torch.from_numpy(LABELS))).name == kept.name

    class Items:
        def __len__(self) -> int:
            return 80

        def __getitem__(self, index: int) -> tuple[list[int], int]:
            return TOKENS[index].tolist(), int(LABELS[index])

    assert parts_of(Items()).name == kept.name
    write_kept(tmp_path, kept)
    assert read_kept(tmp_path, kept.name).name == kept.name
    data = load_search_data(kept.name, tmp_path, 0)
    assert data.tokens == 9
    assert data.digest == load_search_data(saved(tmp_path / "data.npz", x=TOKENS, y=LABELS), None, 0).digest


def test_all_splits_and_the_file_decide_how_many_tokens_there_are(tmp_path: Path) -> None:
    test = TOKENS[:10].copy()
    test[3, 3] = 20
    parts = {"x_train": TOKENS, "y_train": LABELS, "x_test": test, "y_test": LABELS[:10]}
    assert load_search_data(saved(tmp_path / "more.npz", **parts), None, 0).tokens == 21
    given = saved(tmp_path / "given.npz", **parts, tokens=np.array(50))
    assert load_search_data(given, None, 0).tokens == 50
    with pytest.raises(DataError, match=r"test has the token 20, and tokens is 20; .*from 21"):
        load_search_data(saved(tmp_path / "few.npz", **parts, tokens=np.array([20])), None, 0)


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"x": TOKENS - 2}, "below 0"),
        ({"x": TOKENS * 10**6}, "above 1,048,575"),
        ({"x": TOKENS.astype(np.uint64) + 2**63}, "above"),
        ({"x": TOKENS, "tokens": np.array(9.0)}, "whole number"),
        ({"x": TOKENS, "tokens": np.array([9, 9])}, "whole number"),
        ({"x": TOKENS, "tokens": np.array("many")}, "whole number"),
        ({"x": TOKENS / 1, "tokens": np.array(9)}, "not whole numbers"),
        (
            {"x": TOKENS, "x_test": TOKENS / 1, "y_test": LABELS, "x_train": TOKENS, "y_train": LABELS},
            "one kind",
        ),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, arrays: dict[str, Any], fact: str) -> None:
    with pytest.raises(DataError, match=fact) as error:
        load_search_data(saved(tmp_path / "data.npz", y=LABELS, **arrays), None, 0)
    assert "\n" not in str(error.value)


def test_unlike_items_and_changes_of_images_are_refused(tmp_path: Path) -> None:
    class Odd:
        def __len__(self) -> int:
            return 80

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return TOKENS[index] / 1 if index == 5 else TOKENS[index], int(LABELS[index])

    with pytest.raises(DataError, match=r"item 5 .* tokens"):
        parts_of(Odd())
    with pytest.raises(DataError, match="one kind"):
        parts_of(((TOKENS, LABELS), (TOKENS / 1, LABELS)))
    spec = saved(tmp_path / "data.npz", x=TOKENS, y=LABELS)
    with pytest.raises(DataError, match="for images"):
        load_search_data(spec, None, 0, augment="flips=true")


def test_a_linear_model_reads_how_often_each_token_occurs(tmp_path: Path) -> None:
    order = np.argsort(DRAW.random(TOKENS.shape), axis=1)  # no position tells anything
    mixed = np.take_along_axis(TOKENS, order, 1)
    data = load_search_data(saved(tmp_path / "data.npz", x=mixed, y=LABELS), None, 0, 0.25)
    assert baseline_scores(data, {"val": data.val})["linear_val"] == 1.0
    rare = mixed + 3 * WORDS * (DRAW.random(TOKENS.shape) < 0.05)
    wide = load_search_data(saved(tmp_path / "wide.npz", x=rare, y=LABELS), None, 0, 0.25)
    assert baseline_scores(wide, {"val": wide.val})["linear_val"] > 0.7
