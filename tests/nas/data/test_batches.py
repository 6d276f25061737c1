"""Whole-batch augmentation against the plainest per-image one."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from trap_support import set_traps

from nas.data import Augment, Split, StreamSplit, eval_batches, train_batches
from nas.data.batches import _BatchReader

NONE = Augment(flip=False, crop=0)


def random_split(n, c, h, w, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.randint(256, (n, c, h, w), generator=generator, dtype=torch.uint8), torch.arange(n))


def stats(c):
    return [0.1 * (i + 1) for i in range(c)], [0.5 + 0.1 * i for i in range(c)]


def take(batches, count):
    return list(itertools.islice(batches, count))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def streamed(split, workers=0):
    items = list(zip(split.images, split.labels.tolist(), strict=True))
    return StreamSplit(items, torch.arange(len(split)), split.labels, split.shape, "items", workers)


@settings(max_examples=30, deadline=None)
@given(
    c=st.integers(1, 4),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    batch=st.integers(1, 20),
    flip=st.booleans(),
    data=st.data(),
)
def test_each_image_is_a_reflected_crop_and_flip_of_its_own(c, h, w, batch, flip, data):
    crop = data.draw(st.integers(0, min(h, w) - 1))
    split = random_split(7, c, h, w)
    for x, y in take(train_batches(split, batch, seeded(), [0.0] * c, [1.0] * c, Augment(flip, crop)), 3):
        assert x.shape == (batch, c, h, w)
        pixels = (x * 255).round().to(torch.uint8)
        for image, label in zip(pixels, y, strict=True):
            padded = F.pad(split.images[label].float()[None], [crop] * 4, mode="reflect")[0].to(torch.uint8)
            choices = [
                padded[:, i : i + h, j : j + w] for i in range(2 * crop + 1) for j in range(2 * crop + 1)
            ]
            choices += [choice.flip(2) for choice in choices] if flip else []
            assert any(torch.equal(image, choice) for choice in choices)


def test_every_shift_and_both_mirrors_occur_about_equally_often():
    split = Split(torch.arange(25, dtype=torch.uint8).view(1, 1, 5, 5), torch.zeros(1, dtype=torch.int64))
    x, _ = next(train_batches(split, 9000, seeded(), [0.0], [1.0], Augment(flip=True, crop=1)))
    kinds, counts = (x * 255).round().reshape(9000, -1).unique(dim=0, return_counts=True)
    assert len(kinds) == 18
    assert counts.min() > 400
    assert counts.max() < 600


@pytest.mark.parametrize("batch", [1, 3, 5, 8, 23])
def test_over_k_epochs_each_image_comes_k_times_and_every_batch_is_full(batch):
    split = random_split(10, 1, 2, 2)
    batches = take(train_batches(split, batch, seeded(), [0.0], [1.0], NONE), 10)
    labels = torch.cat([y for _, y in batches])
    assert all(len(y) == batch for _, y in batches)
    for epoch in labels[: len(labels) // 10 * 10].split(10):
        assert sorted(epoch.tolist()) == list(range(10))


def test_the_order_differs_between_epochs_and_seeds():
    split = random_split(50, 1, 2, 2)
    (_, first), (_, second) = take(train_batches(split, 50, seeded(), [0.0], [1.0], NONE), 2)
    _, other = next(train_batches(split, 50, seeded(1), [0.0], [1.0], NONE))
    assert first.tolist() != second.tolist()
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize("make", [lambda s: s, streamed], ids=["memory", "stream"])
def test_the_same_generator_state_gives_the_same_batches(make):
    split, (mean, std) = make(random_split(20, 3, 6, 6)), stats(3)
    runs = [take(train_batches(split, 8, seeded(5), mean, std, Augment(True, 2)), 6) for _ in range(2)]
    for (x, y), (x2, y2) in zip(*runs, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_a_streamed_split_gives_the_batches_of_the_same_split_in_memory():
    split, (mean, std) = random_split(20, 3, 6, 6), stats(3)
    runs = [
        take(train_batches(each, 8, seeded(5), mean, std, Augment(True, 2)), 6)
        + list(eval_batches(each, 8, mean, std))
        for each in (split, streamed(split))
    ]
    for (x, y), (x2, y2) in zip(*runs, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_readers_in_other_processes_give_the_same_batches(tmp_path, monkeypatch):
    """They import nothing from the current folder, which may be a stranger's run."""
    trace = set_traps(tmp_path)
    monkeypatch.chdir(tmp_path)
    split, (mean, std) = random_split(20, 3, 6, 6), stats(3)
    runs = [
        take(train_batches(streamed(split, workers), 8, seeded(5), mean, std, Augment(True, 2)), 6)
        for workers in (0, 2)
    ]
    assert not trace.exists()
    for (x, y), (x2, y2) in zip(*runs, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_readers_send_no_tensors():
    """A process that ends while one of its threads is sending a tensor is aborted by torch's own code."""
    positions, images = _BatchReader(streamed(random_split(6, 3, 4, 4), workers=1)).__getitems__([0, 2])
    assert type(positions) is list
    assert type(images) is np.ndarray


def test_nothing_is_drawn_from_the_global_generator():
    before = torch.get_rng_state()
    split = random_split(20, 3, 6, 6)
    for each in (split, streamed(split)):
        take(train_batches(each, 8, seeded(), *stats(3), Augment(True, 2)), 4)
        list(eval_batches(each, 8, *stats(3)))
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_goes_once_through_the_split_in_order():
    split, (mean, std) = random_split(10, 3, 4, 5), stats(3)
    batches = list(eval_batches(split, 4, mean, std))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    x = torch.cat([x for x, _ in batches])
    exact = (split.images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(x.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.cat([y for _, y in batches]), split.labels)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtype_and_memory_format_change_nothing_but_themselves(dtype, memory_format):
    split = random_split(6, 3, 5, 4)
    x, _ = next(eval_batches(split, 6, *stats(3), dtype=dtype, memory_format=memory_format))
    reference, _ = next(eval_batches(split, 6, *stats(3)))
    assert x.dtype == dtype
    assert x.is_contiguous(memory_format=memory_format)
    assert torch.equal(x, reference.to(dtype))


def test_a_batch_is_the_callers_to_change():
    split = random_split(4, 1, 3, 3)
    first = [x.clone() for x, _ in eval_batches(split, 4, [0.0], [1.0])]
    for x, y in eval_batches(split, 4, [0.0], [1.0]):
        x.zero_()
        y.zero_()
    assert torch.equal(first[0], next(eval_batches(split, 4, [0.0], [1.0]))[0])
    assert split.labels.tolist() == [0, 1, 2, 3]


def test_the_images_memory_layout_does_not_matter():
    split = random_split(6, 3, 5, 4)
    last = Split(split.images.contiguous(memory_format=torch.channels_last), split.labels)
    for (x, _), (x2, _) in zip(
        take(train_batches(split, 4, seeded(), *stats(3), Augment(True, 1)), 3),
        take(train_batches(last, 4, seeded(), *stats(3), Augment(True, 1)), 3),
        strict=True,
    ):
        assert torch.equal(x, x2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_does_not_matter():
    split = random_split(40, 3, 8, 8)
    here = take(train_batches(split, 16, seeded(), *stats(3), Augment(True, 2)), 5)
    there = take(train_batches(split, 16, seeded(), *stats(3), Augment(True, 2), device="cuda"), 5)
    for (x, y), (x2, y2) in zip(here, there, strict=True):
        torch.testing.assert_close(x, x2.cpu(), rtol=1e-6, atol=1e-6)
        assert torch.equal(y, y2.cpu())


def test_arguments_that_fit_no_split_are_refused_at_the_call():
    split = random_split(4, 3, 4, 4)
    with pytest.raises(ValueError, match="crop=4"):
        train_batches(split, 2, seeded(), *stats(3), Augment(False, 4))
    with pytest.raises(ValueError, match="mean has 1"):
        eval_batches(split, 2, *stats(1))
    with pytest.raises(ValueError, match="batch_size=0"):
        eval_batches(split, 0, *stats(3))
    with pytest.raises(ValueError, match="uint8"):
        Split(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels must be"):
        Split(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
