"""What is done to training images: nothing to a user's own, unless asked for, and it is said."""

from pathlib import Path

import numpy as np
import pytest
from picture_support import classes, loaded, notes

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.data import Augment, load_search_data
from nas.data.augment import augment_of
from nas.data.published import STANDARD

CIFAR = Augment(flip=True, crop=4)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, CIFAR),
        ("none", Augment(False, 0)),
        ("flips=false", Augment(False, 4)),
        ("shifts=0", Augment(True, 0)),
        ("shifts=2, flips=true", Augment(True, 2)),
        ("flip", Augment(True, 0)),
        ("crop=2", Augment(False, 2)),
        ("flip,crop=2", Augment(True, 2)),
    ],
)
def test_what_is_asked_for_wins_over_what_the_data_set_declares(text: str | None, found: Augment) -> None:
    assert augment_of(text, CIFAR) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all",
        "flips",
        "flips=1",
        "shifts=-1",
        "shifts=2.5",
        "none,flips=true",
        "flip,",
        "flip,shifts=2",
        "crop=-1",
        "crop=2,flip",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="augment"):
        augment_of(text, CIFAR)
    with pytest.raises((UserError, ValueError), match="augment"):
        RunConfig(space="digits", data="digits", generations=1, augment=text)


def test_own_images_are_neither_mirrored_nor_shifted_and_that_is_said(tmp_path: Path) -> None:
    data = loaded(classes(tmp_path))
    assert data.augment == Augment(False, 0)
    assert "neither mirrored nor shifted" in notes(data)
    asked = loaded(tmp_path, augment="flips=true,shifts=1")
    assert asked.augment == Augment(True, 1)
    assert "mirrored" in notes(asked)
    assert "neither" not in notes(asked)


def test_only_sets_whose_mirror_images_are_as_real_are_mirrored() -> None:
    assert {known.name for known in STANDARD if known.augment.flip} == {
        "cifar10",
        "cifar100",
        "fashion-mnist",
    }


def test_a_shift_beyond_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="shifts=8"):
        load_search_data("digits", None, 0, augment="shifts=8")


def test_left_and_right_stay_what_they_are(tmp_path: Path) -> None:
    """Every training batch has the pixels of the files, not their mirror images."""
    import torch
    from PIL import Image

    from nas.data import train_batches

    for name, where in (("left", slice(0, 3)), ("right", slice(-3, None))):
        (tmp_path / name).mkdir()
        for number in range(8):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[:, where] = 200
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = loaded(tmp_path)
    x, y = next(train_batches(data.train, 64, torch.Generator().manual_seed(0), (0.0,), (1.0,), data.augment))
    assert torch.equal(x[:, 0, :, 0].amax(1) < 0.1, y == 1)
