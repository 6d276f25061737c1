"""The text after --data: digits, names, and that a search can't reach the test split."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_support import one_line, reachable
from engine_support import tiny

from nas.base.errors import DataError, UserError
from nas.data import DATASETS, Augment, SearchData, Split, load, load_search_data, load_test_split
from nas.execute.worker import data_for, data_key
from nas.run.lifecycle import load_data


def rows(split):
    return {image.numpy().tobytes() for image in split.images}


def test_digits():
    data = load_search_data("digits", None, 0)
    test = load_test_split("digits", None, 0)
    assert isinstance(data, SearchData)
    assert isinstance(data.train, Split)
    assert data.input_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert len(data.train) + len(data.val) + len(test) == 1797
    assert abs(len(test) - 0.25 * 1797) < 6
    assert abs(len(data.val) - 0.1 * 1347) < 6
    assert data.augment == Augment(flip=False, crop=1)
    assert int(data.train.images.max()) == 255
    scaled = data.train.images.double() / 255
    assert data.mean == pytest.approx((float(scaled.mean()),))
    for split in (data.train, data.val, test):
        share = split.labels.bincount(minlength=10) / len(split)
        assert float((share - 0.1).abs().max()) < 0.02


def test_the_seed_draws_the_validation_split_and_never_the_test_split():
    a, b, c = (load_search_data("digits", None, seed) for seed in (0, 0, 1))
    assert a.digest == b.digest
    assert torch.equal(a.val.images, b.val.images)
    assert a.digest != c.digest
    test = [load_test_split("digits", None, seed) for seed in (0, 1)]
    assert torch.equal(test[0].images, test[1].images)
    for data in (a, c):
        assert len(rows(data.train) & rows(data.val)) == 0
        assert len((rows(data.train) | rows(data.val)) & rows(test[0])) == 0


def test_a_search_cannot_reach_the_test_split():
    data = load_search_data("digits", None, 0)
    test = load_test_split("digits", None, 0)
    found = reachable(replace(data, notes=()))  # they name the number of test images
    tensors = [value for value in found if isinstance(value, torch.Tensor)]
    assert len(tensors) == 4
    for tensor in tensors:
        # No tensor is a window onto memory that holds more than the split itself.
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    held = data.train.images.numpy().tobytes() + data.val.images.numpy().tobytes()
    assert not any(image in held for image in rows(test))
    assert not [value for value in found if isinstance(value, str) and ("test" in value or "/" in value)]
    loss = (data.task.loss, data.task.fused)  # functions without data
    assert not [value for value in found if callable(value) and value not in loss]


def test_search_data_goes_through_a_pickle_to_another_process():
    data = load_search_data("digits", None, 0)
    back = pickle.loads(pickle.dumps(data))
    assert back.digest == data.digest
    assert torch.equal(back.train.images, data.train.images)


def test_the_validation_share_is_a_setting():
    data = load_search_data("digits", None, 0, val_fraction=0.5)
    assert abs(len(data.val) - len(data.train)) <= 10
    with pytest.raises(DataError) as error:
        load_search_data("digits", None, 0, val_fraction=1.0)
    assert "between 0 and 1" in one_line(error)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("none", Augment(False, 0)),
        ("flip", Augment(True, 0)),
        ("crop=2", Augment(False, 2)),
        ("flip,crop=7", Augment(True, 7)),
    ],
)
def test_augmentation_is_a_setting_of_the_driver_and_of_workers(text, meant):
    config = tiny(augment=text)
    assert load_search_data("digits", None, 0, augment=text).augment == meant
    assert load_data(config).augment == meant
    found = data_for(config)
    assert isinstance(found, SearchData)
    assert found.augment == meant
    assert data_key(config) != data_key(tiny())


def test_augmentation_that_no_image_can_have_is_refused():
    with pytest.raises(DataError) as error:
        load_search_data("digits", None, 0, augment="crop=8")
    assert "crop=8" in one_line(error)
    for wrong in ("crop", "mirror", "flip,", "crop=-1"):
        with pytest.raises(UserError, match="augment"):
            tiny(augment=wrong)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("cifar", "cifar10"),
        ("cifar-10", "cifar10"),
        ("MNIST", "mnist"),
        ("fashion_mnist", "fashion-mnist"),
        ("imagefolders:/tmp", "imagefolder:PATH"),
        ("zzz", "use one of digits, mnist"),
        ("", "use one of"),
        ("a b:c", "use one of"),
        ("imagefolder", "imagefolder:PATH"),
    ],
)
@pytest.mark.parametrize("load", [load_search_data, load_test_split])
def test_an_unknown_name_suggests_near_ones(spec, hint, load, tmp_path):
    with pytest.raises(DataError) as error:
        load(spec, tmp_path, 0)
    assert hint in one_line(error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_given_as_a_name_suggests_imagefolder(tmp_path):
    with pytest.raises(DataError) as error:
        load_search_data(str(tmp_path), None, 0)
    assert f"imagefolder:{tmp_path}" in one_line(error)


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "root").write_text("x")
    with pytest.raises(DataError) as error:
        load_search_data("mnist", tmp_path / "root", 0)
    assert "is not a folder" in one_line(error)


def test_the_registry_names_every_set():
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"} <= set(DATASETS)
    assert all(isinstance(text, str) and text for text in DATASETS.values())


def table(split):
    """Each image's 64 grey levels, 0 to 16, and its label."""
    grey = (split.images[:, 0].flatten(1) / 255 * 16).round()
    return torch.column_stack([grey, split.labels]).int().tolist()


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, held = load_search_data("digits", None, 3), load_digits()
    theirs = np.column_stack([held.data, held.target]).astype(int).tolist()
    ours = [*table(data.train), *table(data.val), *table(load_test_split("digits", None, 3))]
    assert sorted(ours) == sorted(theirs)


def test_digits_of_a_scikit_learn_that_keeps_its_file_elsewhere(tmp_path, monkeypatch):
    as_now = load_test_split("digits", None, 0)
    monkeypatch.setattr(load, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    assert torch.equal(load_test_split("digits", None, 0).images, as_now.images)
