"""Arrays of every shape and range: taken for what they are, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Dataset

from nas.base.errors import DataError
from nas.data.convert import item_image, to_pixels
from nas.data.run_arrays import parts_of

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 2


def whole(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ((6, 8, 8), (6, 8, 8, 1)),
        ((6, 3, 8, 9), (6, 8, 9, 3)),
        ((6, 8, 9, 3), (6, 8, 9, 3)),
        ((6, 8, 8, 5), (6, 8, 8, 5)),
        ((6, 5, 8, 8), (6, 8, 8, 5)),
        ((6, 64, 48, 12), (6, 64, 48, 12)),
        ((6, 12, 64, 48), (6, 64, 48, 12)),
        ((6, 28, 28, 1), (6, 28, 28, 1)),
        ((6, 1, 28, 28), (6, 28, 28, 1)),
        ((6, 4, 4, 3), (6, 4, 4, 3)),
        ((6, 2, 20, 100), (6, 20, 100, 2)),
    ],
)
def test_the_channel_axis_is_found(shape: tuple[int, ...], pixels: tuple[int, ...]) -> None:
    given = whole(*shape)
    found = to_pixels(given, "x").numpy()
    assert found.shape == pixels
    if len(shape) == 4:
        assert np.array_equal(found, given if shape[1:] == pixels[1:] else given.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    "shape",
    [(3, 32, 3), (64, 1, 1), (1, 1, 64), (64, 2, 2), (8, 8, 8), (20, 30, 18), (12, 64, 12), (1, 28, 1)],
)
def test_axes_that_could_be_either_are_refused_never_guessed(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="channels"):
        to_pixels(whole(6, *shape), "x")
    with pytest.raises(DataError, match="channels"):
        item_image(whole(*shape), "x")


@pytest.mark.parametrize(
    "images",
    [
        whole(40, 8, 8).astype(np.uint16) * 257,
        whole(40, 8, 8).astype(np.float32),
        whole(40, 8, 8) / 127.5 - 1,
        whole(40, 8, 8) / 65535,  # in [0, 1], and black
        whole(40, 8, 8).astype(np.int32) - 5,
    ],
)
def test_values_of_another_range_are_refused(images: Any) -> None:
    with pytest.raises(DataError, match=str(images.dtype)):
        parts_of((images, LABELS))


@pytest.mark.parametrize("images", [whole(40, 8, 8) / 255, whole(40, 8, 8) > 99, np.zeros((40, 8, 8))])
def test_values_in_range_are_kept(images: Any) -> None:
    found = parts_of((images, LABELS)).train.pixels.numpy()[..., 0]
    assert np.array_equal(found, np.rint(np.asarray(images, dtype=float) * 255))


class Pictures(Dataset[Any]):
    def __init__(self, image: Image.Image) -> None:
        self.image = image

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.image, index % 2


def test_a_picture_with_alpha_in_a_data_set_is_shown_on_white() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, :, 3] = 255
    found = parts_of(Pictures(Image.fromarray(pixels))).train.pixels
    assert (int(found[0, 2, 0, 0]), int(found[0, 0, 0, 0])) == (0, 255)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.full((8, 8), 4000, np.uint16)),
        Image.fromarray(np.full((8, 8), 4000, np.int32)),
        Image.fromarray(np.full((8, 8), 2.5, np.float32)),
        Image.merge("LA", (Image.new("L", (8, 8), 255), Image.linear_gradient("L").resize((8, 8)))),
    ],
)
def test_a_picture_whose_values_have_no_meaning_by_itself_is_refused(image: Image.Image) -> None:
    with pytest.raises(DataError, match="item 0"):
        parts_of(Pictures(image))


def test_a_damaged_item_of_a_test_part_is_found_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.data import load_search_data

    (tmp_path / "own_items.py").write_text(
        "import numpy as np\n"
        "class Items:\n"
        "    def __init__(self, bad): self.bad, self.targets = bad, list(np.arange(60) % 2)\n"
        "    def __len__(self): return 60\n"
        "    def __getitem__(self, i):\n"
        "        if i in self.bad: raise OSError('damaged')\n"
        "        return np.full((8, 8), i, np.uint8), self.targets[i]\n"
        "def load(): return Items(()), Items((8, 12))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    load_search_data("own_items:load", None, 0)
    with pytest.raises(DataError, match=r"2 of 120.*test item 12.*test item 8"):
        load_search_data("own_items:load", None, 0, check="auto")
