"""What is said of pictures that show nothing, and of copies."""

import shutil

import numpy as np
import pytest
import torch
from picture_support import classes, loaded, notes
from PIL import Image

from nas.data import load_search_data


def test_nothing_is_said_of_pictures_that_differ(tmp_path):
    said = notes(loaded(classes(tmp_path, count=12), check="all"))
    assert "more than one class" not in said
    assert "training split too" not in said
    assert "one colour" not in said


def test_pictures_of_one_colour_are_told(tmp_path):
    top = classes(tmp_path, count=12)
    for name in ("a", "b"):
        Image.new("RGB", (10, 8), (7, 7, 7)).save(top / "cat" / f"{name}.png")
    said = notes(loaded(top, check="all"))
    assert "one colour: 2" in said
    assert "cat/a.png" in said


@pytest.mark.parametrize("check", ["all", "auto"])
def test_a_picture_in_two_classes_is_told(tmp_path, check):
    top = classes(tmp_path, ("cat", "dog", "emu"), count=16)
    for number in range(8):
        shutil.copy(top / "cat" / f"{number}.png", top / "emu" / f"copy{number}.png")
    assert "in more than one class, such as cat and emu" in notes(loaded(top, check=check))


def test_copies_in_both_splits_are_told(tmp_path):
    top = classes(tmp_path, count=20)
    for name in ("cat", "dog"):
        for number in range(20):
            shutil.copy(top / name / f"{number}.png", top / name / f"copy{number}.png")
    said = notes(loaded(top, check="all"))
    assert "in the training split too" in said
    assert "more than one class" not in said


def test_arrays_are_looked_at_as_well(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "same.npz", x=np.concatenate([x, x]), y=np.arange(80) % 2)
    assert "training split too" in notes(load_search_data(f"npz:{tmp_path}/same.npz", None, 0, check="all"))
    np.savez(tmp_path / "conflict.npz", x=np.concatenate([x, x]), y=np.repeat([0, 1], 40))
    assert "more than one class" in notes(
        load_search_data(f"npz:{tmp_path}/conflict.npz", None, 0, check="all")
    )


def test_targets_that_are_no_classes_are_not_compared(tmp_path):
    x = np.zeros((40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "flat.npz", x=x, y=torch.randn(40).numpy())
    assert "more than one class" not in notes(
        load_search_data(f"npz:{tmp_path}/flat.npz", None, 0, check="all")
    )
