"""What every arm is given: the same images, the same split, and the same budget of multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch.nn.functional import avg_pool2d

import morphs
from _equal_cost.networks import seed_network
from nas.data import Augment, SearchData, Split, load_search_data, load_test_split
from nas.data.splits import digest, hold_out, mean_std
from nas.train import TrainConfig

# Epochs of the seed network of width 8. Small: it still improves; large: it has stopped.
EPOCHS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "digits": {"small": 16, "middle": 48, "large": 144},
        "fashion-mnist": {"small": 8, "middle": 24, "large": 72},
        "cifar10": {"small": 8, "middle": 24, "large": 72},
    }
)
TRAINING_IMAGES = {"fashion-mnist": 60_000, "cifar10": 50_000}  # published; `images` of them are used
QUICK = 10.0  # epochs of all budgets with --quick
SEED_WIDTH = 8
HELD_OUT = 1 / 6  # of the training images: validation; 2,000 of 12,000
DIGITS_HELD_OUT = 0.2

# The loop of all networks from scratch. Learning rates by validation on seeds from 100 up. CIFAR-10, small budget, seed
# network: 57.7 % at 0.05, 60.1 at 0.1, 62.1 at 0.2, 64.6 at 0.4, 63.4 at 0.8; ResNet-9 of width 4: 65.1 at 0.1, 64.0 at
# 0.2, 65.4 at 0.4. Digits, middle budget: mean loss of both 0.199 at 0.05, 0.204 at 0.1, 0.183 at 0.2, 0.204 at 0.4.
RECIPES: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "digits": TrainConfig(lr=0.2, batch_size=64, label_smoothing=0.1, weight_decay=5e-4),
        "fashion-mnist": TrainConfig(lr=0.3, batch_size=128, label_smoothing=0.1, weight_decay=5e-4),
        "cifar10": TrainConfig(lr=0.3, batch_size=128, label_smoothing=0.1, weight_decay=5e-4),
    }
)


@dataclass(frozen=True)
class Problem:
    """One data set with one seed's validation split, and a budget.

    budget: multiply-adds of everything that an arm does, except reading the test split and drawing its curve.
    """

    data: SearchData
    test: Split
    budget: int
    seed: int
    recipe: TrainConfig

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.data.classes)

    @property
    def evaluation(self) -> int:
        """Images of one evaluation."""
        return len(self.data.val)


def make_problem(
    name: str, epochs: float, seed: int, images: int, root: Path | None, shrink: int = 1
) -> Problem:
    """The problem of one data set and seed.

    images: of the training part that are used, the same for all seeds, alike in every class; digits is used whole.
    shrink: pixels of a published image that are averaged into one, both ways.
    """
    if name == "digits":
        data = load_search_data(name, root, seed, DIGITS_HELD_OUT)
    else:
        data = _subset(name, seed, images, root, shrink)
    test = load_test_split(name, root, seed)
    assert isinstance(test, Split)
    if name != "digits":
        test = _shrunk(test, shrink)
    macs = morphs.cost(seed_network(SEED_WIDTH, data.input_shape, len(data.classes))).macs
    return Problem(data, test, round(3 * macs * len(data.train) * epochs), seed, RECIPES[name])


def augmentation(augment: Augment) -> str:
    """The augmentation as a run's setting."""
    parts = ["flip"] * augment.flip + [f"crop={augment.crop}"] * (augment.crop > 0)
    return ",".join(parts) or "none"


def _shrunk(split: Split, shrink: int) -> Split:
    images = avg_pool2d(split.images.float(), shrink).round().to(split.images.dtype)
    return replace(split, images=images.contiguous(memory_format=torch.channels_last))


def _subset(name: str, seed: int, images: int, root: Path | None, shrink: int) -> SearchData:
    # What the loader holds out with a constant seed is a fixed sample, alike in every class.
    used = load_search_data(name, root, 0, images / TRAINING_IMAGES[name])
    train, val = hold_out(used.val, HELD_OUT, seed, "validation")
    assert isinstance(train, Split)
    assert isinstance(val, Split)
    train, val = _shrunk(train, shrink), _shrunk(val, shrink)
    mean, std = mean_std(train)
    found = digest((train, train), (val, val), used.classes)
    augment = replace(used.augment, crop=used.augment.crop // shrink)
    return replace(used, train=train, val=val, mean=mean, std=std, digest=found, augment=augment)
