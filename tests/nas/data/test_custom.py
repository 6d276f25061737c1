"""package.module:function, right and wrong."""

import itertools
import sys
import textwrap

import numpy as np
import pytest
import torch
from data_support import one_line, reachable

from nas.base.errors import DataError
from nas.data import Split, StreamSplit, eval_batches, load_search_data, load_test_split, train_batches

HEAD = """
import numpy as np, torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset
rng = np.random.default_rng(0)
X, Y = rng.integers(0, 256, (60, 3, 6, 5)).astype(np.uint8), np.arange(60) % 4
class Items(Dataset):
    def __init__(self, images, labels):
        self.images, self.numbers = images, labels
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        return self.images[index], int(self.numbers[index])
"""
counter = itertools.count()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a function's body into a fresh module of the current folder; its spec."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(body):
        name = f"made_data_{next(counter)}"
        source = HEAD + "def load():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n"
        (tmp_path / f"{name}.py").write_text(source)
        return f"{name}:load"

    return write


def test_arrays(load):
    spec = load("return (X[:40], Y[:40]), (X[40:], Y[40:])")
    data, test = load_search_data(spec, None, 0), load_test_split(spec, None, 0)
    assert isinstance(data.train, Split)
    assert data.input_shape == (3, 6, 5)
    assert data.classes == ("0", "1", "2", "3")
    assert (len(data.train), len(data.val), len(test)) == (36, 4, 20)
    source = sys.modules[spec.split(":")[0]]
    assert np.array_equal(test.images.numpy(), source.X[40:])
    source.X[:] = 0
    assert int(test.images.max()) > 0


def test_a_given_validation_split_is_kept_whatever_the_seed(load):
    spec = load("return (X[:40], Y[:40]), (X[40:50], Y[40:50]), (X[50:], Y[50:])")
    a, b = load_search_data(spec, None, 0), load_search_data(spec, None, 1)
    assert (len(a.train), len(a.val)) == (40, 10)
    assert a.digest == b.digest


def test_a_search_cannot_reach_the_test_arrays(load):
    spec = load("return (X[:40], Y[:40]), (X[40:50], Y[40:50]), (X[50:], Y[50:])")
    data, test = load_search_data(spec, None, 0), load_test_split(spec, None, 0)
    found = reachable(data)
    assert not [value for value in found if isinstance(value, np.ndarray)]
    for tensor in (value for value in found if isinstance(value, torch.Tensor)):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        if tensor.ndim == 4:
            assert not any(torch.equal(mine, theirs) for mine in tensor for theirs in test.images)


@pytest.mark.parametrize(
    "images",
    [
        "X.astype(np.float32) / 255",
        "X / 255.0",
        "X.astype(np.int64)",
        "torch.from_numpy(X)",
        "torch.from_numpy(X).float().div(255)",
        "X.transpose(0, 2, 3, 1)",
        "list(X)",
    ],
)
def test_images_in_many_forms_are_the_same_images(load, images):
    spec = load(f"I = {images}\nreturn (I, Y), (I, Y)")
    plain = load("return (X, Y), (X, Y)")
    assert torch.equal(load_test_split(spec, None, 0).images, load_test_split(plain, None, 0).images)


def test_grey_and_boolean_images_get_a_channel(load):
    spec = load("B = X[:, 0] > 127\nreturn (B, Y), (B, Y)")
    test = load_test_split(spec, None, 0)
    assert test.shape == (1, 6, 5)
    assert test.images.unique().tolist() == [0, 255]


def test_a_tensor_data_set_is_held_in_memory(load):
    spec = load("D = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))\nreturn D, D")
    assert isinstance(load_search_data(spec, None, 0).train, Split)


@pytest.mark.parametrize(
    "extra", ["", "D.targets = Y.tolist()", "D.targets = (Y + 1).tolist()", "D.targets = 7"]
)
def test_a_data_set_is_streamed_and_its_own_labels_are_checked(load, extra):
    spec = load(
        f"D, T = Items(X[:40], Y[:40]), Items(X[40:], Y[40:])\n{extra.replace('Y', 'Y[:40]')}\nreturn D, T"
    )
    data = load_search_data(spec, None, 0)
    assert isinstance(data.train, StreamSplit)
    same = load_search_data(load("return (X[:40], Y[:40]), (X[40:], Y[40:])"), None, 0)
    for batches in (
        lambda d: list(eval_batches(d.val, 3, d.mean, d.std)),
        lambda d: list(
            itertools.islice(train_batches(d.train, 8, torch.Generator(), d.mean, d.std, d.augment), 3)
        ),
    ):
        for (x, y), (x2, y2) in zip(batches(data), batches(same), strict=True):
            assert torch.equal(x, x2)
            assert torch.equal(y, y2)


def test_a_torchvision_data_set_with_pil_images(load):
    spec = load(
        "from torchvision.datasets import FakeData\n"
        "return FakeData(60, (3, 8, 8), 2), FakeData(20, (3, 8, 8), 2, random_offset=9)"
    )
    data = load_search_data(spec, None, 0)
    assert data.input_shape == (3, 8, 8)
    assert next(eval_batches(data.val, 2, data.mean, data.std))[0].shape == (2, 3, 8, 8)


NONSENSE = {
    "return None": "returned None",
    "return X, Y, X, Y": "returned a tuple of 4",
    "return X": "returned a ndarray",
    "return (X, Y, Y), (X, Y)": "train is a tuple of 3",
    "return 5, (X, Y)": "train is a int",
    "return (X, Y), (X[:5], Y)": "labels have shape [60] for 5 images",
    "return (X[0, 0], Y), (X, Y)": "labels have shape [60] for 6",
    "return (X[:0], Y[:0]), (X, Y)": "images have shape [0, 3, 6, 5]",
    "return (X[None], Y), (X, Y)": "images have shape [1, 60, 3, 6, 5]",
    "return (X.astype(float), Y), (X, Y)": "floats in [0, 1]",
    "return (X / 127.5 - 1, Y), (X, Y)": "-1 to 1",
    "return (X.astype(int) * 2, Y), (X, Y)": "integers in [0, 255]",
    "return (np.full((60, 3, 6, 5), np.nan), Y), (X, Y)": "NaN or infinity",
    "return (np.full((60, 3, 6, 5), 1j), Y), (X, Y)": "complex128",
    "return (X, Y), (X, Y / 1.0)": "floats, in training class numbers",
    "return (X, Y == 1), (X, Y)": "test: label 3 ",
    "return (X, Y * np.nan), (X, Y)": "labels contain NaN",
    "return (X, np.stack([Y, Y], 1)), (X, Y)": "class numbers, in training floats",
    "return (X, Y * 0.0), (X, Y)": "all training targets are equal",
    "return (X, Y - 1), (X, Y)": "label -1 is not a class number",
    "return (X, [str(y) for y in Y]), (X, Y)": "list of type <U1",
    "return (X, Y * 2), (X, Y)": "class 1 of 0 … 6 has no training image",
    "return (X, Y * 10**12), (X, Y)": "number the classes",
    "return (X, Y * 0), (X, Y * 0)": "one class",
    "return (X, Y), (X, Y + 1)": "test: label 4 ",
    "return (X, Y), (X[:, :1], Y)": "test: images are [1, 6, 5], training images [3, 6, 5]",
    "return (X, Y), (X, Y + 1), (X, Y)": "validation: label 4",
    "return ([X[0], X[0, 0]], Y[:2]), (X, Y)": "is not an array",
    "return {1: 2}.nothing": "AttributeError",
    "raise RuntimeError('two\\nlines')": "RuntimeError: two lines",
    "class E(Items):\n    def __getitem__(s, i): raise OSError('disk')\nD = E(X, Y)\nreturn D, D": "disk",
    "class E(Items):\n    def __getitem__(s, i): return s.images[i]\nD = E(X, Y)\nreturn D, D": "(image, label)",
    "class E(IterableDataset):\n    def __iter__(s): return iter(())\nreturn E(), E()": "len() and indices",
    "D = Items(X[:0], Y[:0])\nreturn D, D": "is empty",
    "return {'train': (X, Y), 'test': (X, Y)}": "a dict with the keys train, test; return its parts",
    "return {'image': X, 'label': Y}, (X, Y)": "train is a dict with the keys image, label",
    "from torch.utils.data import DataLoader\nD = DataLoader(Items(X, Y))\nreturn D, D": "loader.dataset",
    "return load, (X, Y)": "train is a function; call it",
}
NONSENSE |= {  # a Dataset whose items are the text
    f"class E(Items):\n    def __getitem__(s, i): return {item}\nD = E(X, Y)\nreturn D, D": said
    for item, said in {
        "{'image': X[i], 'label': Y[i]}": 'item["image"], item["label"]',
        "{'pixel_values': X[i], 'targets': Y[i]}": 'item["pixel_values"], item["targets"]',
        "(X[i], int(Y[i]), i)": "item 0 is a tuple of 3; return a pair (image, label) from __getitem__: the first two",
        "(X[i],)": "item 0 is a tuple of 1",
        "(X[i] // 2 + rng.integers(0, 9).astype('uint8'), int(Y[i]))": "other pixels each time",
        "(X[i], int(rng.integers(0, 2**30)))": "label",
    }.items()
}


@pytest.mark.parametrize("body", list(NONSENSE))
def test_nonsense_is_one_line(load, body):
    spec = load(body)
    with pytest.raises(DataError) as error:
        load_search_data(spec, None, 0)
    assert NONSENSE[body] in one_line(error)
    assert spec.split(":")[0] in one_line(error) or "training images" in one_line(error)


def test_an_item_of_another_size_is_named_when_it_comes(load):
    spec = load("I = list(X)\nI[3] = I[3][:, :2]\nD = Items(I, Y)\nD.targets = Y\nreturn D, Items(X, Y)")
    with pytest.raises(DataError) as error:
        load_search_data(spec, None, 0)
    assert "item 3 has shape [3, 2, 5], others [3, 6, 5]" in one_line(error)


def test_names_that_lead_nowhere(load, tmp_path):
    spec = load("return 1")
    module = spec.split(":")[0]
    (tmp_path / "broken_module.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "syntax_module.py").write_text("def f(:\n")
    for name, expected in (
        ("no_such_module:f", "no module no_such_module"),
        ("os.no_such:f", "no module os.no_such"),
        (f"{module}:other", "'other'"),
        (f"{module}:X", "'X'"),
        ("broken_module:f", "nothing_of_this_name"),
        ("syntax_module:f", "SyntaxError"),
    ):
        with pytest.raises(DataError) as error:
            load_search_data(name, None, 0)
        assert expected in one_line(error)


def test_data_in_the_script_that_runs_must_go_into_a_file():
    with pytest.raises(DataError) as error:
        load_search_data("__main__:load", None, 0)
    assert "__main__" in one_line(error)
    assert "mine:load" in one_line(error)


@pytest.mark.parametrize("name", ["random", "types", "test", "json.mine", "numpy", "sys"])
def test_a_module_whose_name_another_has_is_named_with_both_files(tmp_path, monkeypatch, name):
    """The current folder is last on the path: its random.py hides nothing, and is hidden."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    top = name.partition(".")[0]
    (tmp_path / f"{top}.py").write_text("def load(): return 1\n")
    with pytest.raises(DataError) as error:
        load_search_data(f"{name}:load", None, 0)
    said = one_line(error)
    assert f"your {top}.py is hidden by" in said
    assert f"my_{top}.py" in said
    assert getattr(sys.modules[top], "__file__", "Python itself") in said
