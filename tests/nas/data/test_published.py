"""The published sets' formats, on small files of the same format; the real ones where they are at hand."""

import gzip
import hashlib
import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.base.errors import DataError
from nas.data import load_search_data, load_test_split
from nas.data.published import STANDARD
from nas.data.readers import read_cifar

SETS = {known.name: known for known in STANDARD}
REAL = {name: (1, 28, 28) if "mnist" in name else (3, 32, 32) for name in SETS}


def unreachable():
    raise AssertionError("nothing is to be downloaded here")


def md5(contents):
    return hashlib.md5(contents, usedforsecurity=False).hexdigest()


def idx(array):
    head = b"\0\0\x08" + bytes([array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(root, n=40, packed=False, damage=None):
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "t10k"):
        arrays[part] = rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays[part], strict=True):
            raw = idx(array)
            raw = raw[:-5] if damage == f"{part}-{kind}" else raw
            name = f"{part}-{kind}-ubyte"
            (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(raw) if packed else raw)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_files(tmp_path, packed):
    arrays = write_mnist(tmp_path, packed=packed)
    data, test = load_search_data("mnist", tmp_path, 0), load_test_split("mnist", tmp_path, 0)
    assert data.input_shape == (1, 28, 28)
    assert (len(data.train), len(data.val), len(test)) == (30, 10, 40)
    assert np.array_equal(test.images[:, 0].numpy(), arrays["t10k"][0])
    assert np.array_equal(test.labels.numpy(), arrays["t10k"][1])


def test_a_search_does_not_open_the_test_files(tmp_path):
    write_mnist(tmp_path, damage="t10k-images-idx3")
    load_search_data("mnist", tmp_path, 0)
    with pytest.raises(DataError, match="damaged"):
        load_test_split("mnist", tmp_path, 0)


@pytest.mark.parametrize("damage", [b"", b"junk", b"\0\0\x08\x03\0\0\0\x01", b"\x1f\x8bnot gzip"])
def test_damaged_mnist_is_one_line_and_stays_as_it_was(tmp_path, damage):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(damage)
    with pytest.raises(DataError) as error:
        load_search_data("mnist", tmp_path, 0)
    assert "damaged" in str(error.value)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert path.read_bytes() == damage


def small_cifar(root, key="labels", count=10):
    folder = root / "cifar"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays, sums = [], []
    for number, name in enumerate(("one", "two", "test")):
        images = rng.integers(0, 256, (2 * count, 3072)).astype(np.uint8)
        arrays.append(images)
        raw = pickle.dumps({b"data": images, key.encode(): [i % count for i in range(2 * count)]}, protocol=2)
        (folder / name).write_bytes(raw)
        sums.append((name, md5(raw)))
        assert number < 3
    meta = pickle.dumps({b"names": [f"class {i}".encode() for i in range(count)]}, protocol=2)
    (folder / "meta").write_bytes(meta)
    small = replace(
        SETS["cifar10"],
        folder="cifar",
        train=tuple(sums[:2]),
        test=tuple(sums[2:]),
        names=("meta", md5(meta), "names"),
        count=count,
        read=partial(read_cifar, key),
        remotes=unreachable,
    )
    return small, arrays


@pytest.mark.parametrize("key", ["labels", "fine_labels"])
def test_cifar_files(tmp_path, key):
    small, arrays = small_cifar(tmp_path, key, 12)
    train, test = small.load("train", tmp_path), small.load("test", tmp_path)
    assert np.array_equal(train.images.numpy().reshape(48, 3072), np.concatenate(arrays[:2]))
    assert np.array_equal(test.images.numpy().reshape(24, 3072), arrays[2])
    assert train.labels.tolist() == [*range(12)] * 4
    assert small.classes(tmp_path)[3] == "class 3"


def test_a_pickle_with_another_md5_is_never_loaded(tmp_path):
    small, _ = small_cifar(tmp_path)
    (tmp_path / "cifar/one").write_bytes(
        b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    )
    with pytest.raises(DataError, match="MD5"):
        small.load("train", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_svhn_files(tmp_path):
    from scipy.io import savemat

    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    files = []
    for name in ("train.mat", "test.mat"):
        labels = np.arange(20)[:, None] % 10
        savemat(tmp_path / name, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)})
        files.append((name, md5((tmp_path / name).read_bytes())))
    small = replace(SETS["svhn"], train=(files[0],), test=(files[1],), remotes=unreachable)
    split = small.load("train", tmp_path)
    assert np.array_equal(split.images.numpy(), images.transpose(0, 3, 1, 2))
    assert split.labels.tolist() == [*range(10)] * 2


def test_the_tables_are_torchvisions():
    from torchvision import datasets

    for name, cls in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        ours = SETS[name]
        assert [list(pair) for pair in ours.train] == cls.train_list
        assert [list(pair) for pair in ours.test] == cls.test_list
        assert ours.names == (cls.meta["filename"], cls.meta["md5"], cls.meta["key"])
        assert ours.folder == cls.base_folder
    split_list = datasets.SVHN.split_list
    assert SETS["svhn"].train == ((split_list["train"][1], split_list["train"][2]),)
    assert SETS["svhn"].test == ((split_list["test"][1], split_list["test"][2]),)
    assert SETS["fashion-mnist"].names == tuple(datasets.FashionMNIST.classes)
    for known in STANDARD:
        places = {place for remote in known.remotes() for _, place in remote.members}
        needed = [name for name, _ in known.train + known.test]
        needed += [known.names[0]] if len(known.names) != known.count else []
        assert places == {str(Path(known.folder, name)) for name in needed}


@pytest.mark.realdata
@pytest.mark.parametrize("name", list(REAL))
def test_the_real_sets(name):
    root = Path(os.environ.get("NAS_DATA", "/nonexistent"))
    if not all((root / SETS[name].folder / file).exists() for file, _ in SETS[name].train):
        pytest.skip(f"no {name} under $NAS_DATA")
    data, test = load_search_data(name, root, 0), load_test_split(name, root, 0)
    assert data.input_shape == REAL[name]
    assert len(data.classes) == SETS[name].count
    total = len(data.train) + len(data.val)
    assert (total, len(test)) == {
        "svhn": (73257, 26032),
        "cifar10": (50000, 10000),
        "cifar100": (50000, 10000),
    }.get(name, (60000, 10000))
    assert len(data.val) == pytest.approx(0.1 * total, rel=0.01)
    share = data.val.labels.bincount() / len(data.val) - data.train.labels.bincount() / len(data.train)
    assert float(share.abs().max()) < 1e-3
    assert torch.equal(test.images, load_test_split(name, root, 1).images)
