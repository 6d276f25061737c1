"""imagefolder:PATH on real files."""

import os

import numpy as np
import pytest
import torch
from data_support import one_line, reachable
from PIL import Image

from nas.base.errors import DataError
from nas.data import StreamSplit, eval_batches, load_search_data, load_test_split, train_batches


def write_images(folder, count, size=(10, 8), mode="RGB", seed=0, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(folder / f"{number:03}{suffix}")


def files_of(split):
    return {split.items.files[i] for i in split.indices.tolist()}


@pytest.fixture
def flat(tmp_path):
    for number, name in enumerate(("cat", "dog", "emu")):
        write_images(tmp_path / "set" / name, 12, seed=number)
    return tmp_path / "set"


@pytest.fixture
def parted(tmp_path):
    for seed, (part, count) in enumerate((("train", 8), ("val", 3), ("test", 4))):
        for number, name in enumerate(("cat", "dog")):
            write_images(tmp_path / "set" / part / name, count, seed=10 * seed + number)
    return tmp_path / "set"


def test_one_folder_is_split_three_ways(flat):
    spec = f"imagefolder:{flat}"
    data, test = load_search_data(spec, None, 0), load_test_split(spec, None, 0)
    assert isinstance(data.train, StreamSplit)
    assert data.classes == ("cat", "dog", "emu")
    assert data.input_shape == (3, 8, 10)
    assert (len(data.train), len(data.val), len(test)) == (24, 3, 9)
    parts = [files_of(split) for split in (data.train, data.val, test)]
    assert len(set.union(*parts)) == 36
    other = load_search_data(spec, None, 1)
    assert files_of(other.val) != files_of(data.val)
    assert files_of(load_test_split(spec, None, 1)) == files_of(test)
    assert load_search_data(spec, None, 0).digest == data.digest != other.digest


def test_folders_of_parts_are_kept(parted):
    spec = f"imagefolder:{parted}"
    data, test = load_search_data(spec, None, 0), load_test_split(spec, None, 0)
    assert (len(data.train), len(data.val), len(test)) == (16, 6, 8)
    for split, part in ((data.train, "train"), (data.val, "val"), (test, "test")):
        assert all(f"{os.sep}{part}{os.sep}" in file for file in files_of(split))


@pytest.mark.parametrize("kind", ["flat", "parted"])
def test_a_search_has_no_path_to_a_test_image(kind, request):
    path = request.getfixturevalue(kind)
    data, test = (
        load_search_data(f"imagefolder:{path}", None, 0),
        load_test_split(f"imagefolder:{path}", None, 0),
    )
    paths = {value for value in reachable(data) if isinstance(value, str)}
    assert files_of(data.train) <= paths
    assert not paths & files_of(test)


def test_batches_are_the_images(flat):
    data = load_search_data(f"imagefolder:{flat}", None, 0)
    x = torch.cat([x for x, _ in eval_batches(data.train, 5, (0.0,) * 3, (1.0,) * 3)])
    for image, index in zip(x, data.train.indices.tolist(), strict=True):
        pixels = np.asarray(Image.open(data.train.items.files[index]))
        assert np.array_equal((image * 255).round().numpy().transpose(1, 2, 0), pixels)
    x, y = next(train_batches(data.train, 7, torch.Generator(), data.mean, data.std, data.augment))
    assert x.shape == (7, 3, 8, 10)
    assert y.dtype == torch.int64


def test_sizes_and_channels(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / "grey" / name, 3, mode="L")
        write_images(tmp_path / "mixed" / name, 3)
        write_images(tmp_path / "large" / name, 3, size=(300, 300), suffix=".jpg")
    write_images(tmp_path / "mixed" / "a", 1, size=(30, 20))
    shapes = {
        spec: load_search_data(f"imagefolder:{tmp_path}/{spec}", None, 0).input_shape
        for spec in ("grey", "mixed", "large", "mixed?size=12", "mixed?size=12x20&fit=pad", "grey?size=6x9")
    }
    assert shapes == {
        "grey": (1, 8, 10),
        "mixed": (3, 56, 72),
        "large": (3, 64, 64),
        "mixed?size=12": (3, 12, 12),
        "mixed?size=12x20&fit=pad": (3, 12, 20),
        "grey?size=6x9": (1, 6, 9),
    }


def test_the_digest_sees_another_image(flat):
    before = load_search_data(f"imagefolder:{flat}", None, 0)
    file = sorted(files_of(before.train))[0]
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(file)
    assert load_search_data(f"imagefolder:{flat}", None, 0).digest != before.digest


def break_nothing_there(path):
    return path / "nowhere", "no folder"


def break_no_classes(path):
    (path / "empty").mkdir()
    return path / "empty", "empty"


def break_empty_class(path):
    (path / "fox").mkdir()
    return path, "/fox "


def break_empty_file(path):
    (path / "cat/000.png").write_bytes(b"")
    return path, "cat/000.png"


def break_no_image(path):
    (path / "cat/000.png").write_bytes(b"this is no image at all")
    return path, "cat/000.png"


def break_size(path):
    return f"{path}?size=0", "size=0"


def break_one_side(path):
    return f"{path}?size=8x0", "8x0"


def break_fit(path):
    return f"{path}?fit=cover", "cover"


def break_range(path):
    return f"{path}?range=9..2", "9..2"


def break_path(path):
    return "", "empty path"


@pytest.mark.parametrize("damage", [v for k, v in sorted(globals().items()) if k.startswith("break_")])
@pytest.mark.parametrize("load", [load_search_data, load_test_split])
def test_bad_folders_are_one_line(flat, damage, load):
    path, expected = damage(flat)
    with pytest.raises(DataError) as error:
        load(f"imagefolder:{path}", None, 0)
    assert expected in one_line(error)


def test_a_class_that_training_lacks(parted):
    write_images(parted / "test/fox", 1)
    with pytest.raises(DataError) as error:
        load_search_data(f"imagefolder:{parted}", None, 0)
    assert "class fox" in one_line(error)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_image_found_while_streaming_is_named(flat, workers):
    data = load_search_data(f"imagefolder:{flat}", None, 0)
    file = sorted(files_of(data.train))[5]
    with open(file, "r+b") as out:
        out.truncate(100)
    split = StreamSplit(**{**vars(data.train), "workers": workers})
    with pytest.raises(DataError) as error:
        list(eval_batches(split, 4, data.mean, data.std))
    assert file in one_line(error)


def test_one_image_per_class_cannot_be_split(tmp_path):
    for name in ("a", "b"):
        write_images(tmp_path / name, 1)
    with pytest.raises(DataError) as error:
        load_search_data(f"imagefolder:{tmp_path}", None, 0)
    assert "add examples" in one_line(error)
