"""A small network and its data, for the tests of training."""

import torch
from torch import nn

from nas.data import Augment, SearchData, Split
from nas.train import TrainConfig, train

CONFIG = TrainConfig(batch_size=16, lr=0.05)


def toy_data(images=96, size=8, seed=0):
    """Two classes, told apart by the brighter half of the image."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 2
    pixels = torch.randint(0, 128, (images, 1, size, size), generator=source)
    pixels[:, :, : size // 2] += 100 * labels[:, None, None, None]
    pixels[:, :, size // 2 :] += 100 * (1 - labels)[:, None, None, None]
    split = Split(pixels.to(torch.uint8), labels)
    return SearchData("toy", split, split, ("a", "b"), (0.4,), (0.25,), Augment(flip=True, crop=1), "0" * 64)


def make_net(seed=0, width=4, dropout=0.2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Dropout(dropout), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * width, 2),
        )  # fmt: skip


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(seed=0, steps=6, config=CONFIG, width=4, **more):
    net = make_net(width=width)
    report = train(net, toy_data(), steps=steps, config=config, seed=seed, **more)
    return weights(net), report
