"""How much faster is `nas.train.train` than the loop people usually write?

The usual loop: float32, contiguous (NCHW) memory, a DataLoader without workers over PIL images, torchvision's
transforms for each image; the same network, data, batch size, augmentation and SGD. Three ResNet-9-like networks
of about 10, 100 and 400 MFLOP per training image on CIFAR-10, where a FLOP is half a multiply-add and training
takes 3 forward passes: 6 x multiply-adds of the forward pass. The two loops take turns (ABABAB), each for the same
number of steps; a ratio is that of the best, or of the median, times. The data set is not downloaded:
`--data-root` (or $NAS_DATA) must hold `cifar-10-batches-py`. On a machine that others are using, wall time says
little: `--clock cpu --threads 1` compares processor seconds.

    python runs/benchmarks/train_speed.py --data-root DIR [--threads N] [--rounds N] [--clock wall|cpu] [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from _common import Figure, figure, finish, guarded
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from nas.data import SearchData, Split, load_search_data
from nas.train import TrainConfig, forward_macs, train

CONFIG = TrainConfig(batch_size=128)
# Nominal training MFLOP per image -> widths of the four stages, and steps in a round.
NETWORKS = {10: ((4, 8, 16, 32), 60), 100: ((16, 24, 56, 112), 24), 400: ((32, 48, 112, 224), 12)}
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Measure all three networks and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: seconds of this process's threads"
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of half the steps")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load_search_data("cifar10", arguments.data_root, seed=0)
    clock = CLOCKS[arguments.clock]
    rounds, share = (3, 2) if arguments.quick else (arguments.rounds, 1)

    figures: list[Figure] = []
    print("MFLOP/img  widths                  usual img/s (best, median)   ours img/s (best, median)   ratio")
    for nominal, (widths, steps) in NETWORKS.items():
        figures += compare(nominal, widths, steps // share, rounds, data, clock)
    figures.append(figure("usual data loading alone", loading_speed(data, 10, clock), "images/s", None))
    finish(__file__, figures)


def compare(
    nominal: int, widths: tuple[int, ...], steps: int, rounds: int, data: SearchData, clock: Clock
) -> list[Figure]:
    """Both loops in turns on one architecture, each on its own copy."""
    usual_net, our_net = resnet9(widths), resnet9(widths)
    mflop = 6 * forward_macs(our_net, data.input_shape, 10) / 1e6
    usual, precision = UsualLoop(usual_net, data), "?"

    def ours(count: int) -> None:
        nonlocal precision
        precision = train(our_net, data, steps=count, config=CONFIG, seed=0).precision

    arms: tuple[Callable[[int], None], ...] = (usual.run, ours)
    times: tuple[list[float], list[float]] = ([], [])
    for arm in arms:
        arm(2)  # allocations and oneDNN's kernels
    for _ in range(rounds):
        for arm, taken in zip(arms, times, strict=True):
            begin = clock()
            arm(steps)
            taken.append(clock() - begin)
    images = steps * CONFIG.batch_size
    (usual_best, usual_mid), (our_best, our_mid) = ((min(t), median(t)) for t in times)
    print(
        f"{mflop:9.1f}  {widths!s:<22}  {images / usual_best:12.0f} {images / usual_mid:12.0f}"
        f"   {images / our_best:12.0f} {images / our_mid:12.0f}"
        f"   best {usual_best / our_best:.2f}, median {usual_mid / our_mid:.2f} ({precision}, {rounds} rounds)",
        flush=True,
    )
    return [
        figure(f"{nominal} MFLOP: ours over usual, best", usual_best / our_best, "x", ">= 2.5"),
        figure(f"{nominal} MFLOP: ours over usual, median", usual_mid / our_mid, "x", ">= 2.5"),
        figure(f"{nominal} MFLOP: ours, median", images / our_mid, "images/s", None),
        figure(f"{nominal} MFLOP: usual, median", images / usual_mid, "images/s", None),
    ]


class UsualLoop:
    """The loop of many tutorials, with its network, optimizer and loader."""

    def __init__(self, net: nn.Module, data: SearchData) -> None:
        self.net, self.loader = net, usual_loader(data)
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=CONFIG.lr, momentum=CONFIG.momentum, nesterov=True,
            weight_decay=CONFIG.weight_decay,
        )  # fmt: skip

    def run(self, steps: int) -> None:
        """Train for some steps."""
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)
        criterion = nn.CrossEntropyLoss(label_smoothing=CONFIG.label_smoothing)
        self.net.train()
        for images, labels in islice(self.loader, steps):
            self.optimizer.zero_grad()
            loss = criterion(self.net(images), labels)
            loss.backward()
            self.optimizer.step()
            schedule.step()
        for group in self.optimizer.param_groups:
            group["lr"] = CONFIG.lr


class Pictures(Dataset[tuple[Tensor, int]]):
    """The split as torchvision's CIFAR10 serves it: an array in memory, a PIL image for each item."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pixels, self.labels = split.pixels.numpy(), split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def usual_loader(data: SearchData) -> DataLoader[tuple[Tensor, int]]:
    """A DataLoader in this process, with the augmentation that `data` asks for done image by image."""
    assert isinstance(data.train, Split)
    flip = [transforms.RandomHorizontalFlip()] if data.augment.flip else []
    crop = transforms.RandomCrop(data.input_shape[1:], padding=data.augment.crop, padding_mode="reflect")
    steps = [crop, *flip, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    pictures = Pictures(data.train, transforms.Compose(steps))
    return DataLoader(pictures, batch_size=CONFIG.batch_size, shuffle=True, drop_last=True, num_workers=0)


def loading_speed(data: SearchData, batches: int, clock: Clock) -> float:
    """Images per second of the usual loader, with no network behind it."""
    begin = clock()
    for _ in islice(usual_loader(data), batches):
        pass
    return batches * CONFIG.batch_size / (clock() - begin)


class Residual(nn.Module):
    """x + two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(width, width), *conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, H, W] to the same shape."""
        return x + self.body(x)


def conv(inputs: int, outputs: int) -> list[nn.Module]:
    """3x3 convolution, batch norm, ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def resnet9(widths: tuple[int, ...]) -> nn.Module:
    """A ResNet-9 for 3x32x32 images and ten classes, of four widths."""
    a, b, c, d = widths
    torch.manual_seed(0)
    return nn.Sequential(
        *conv(3, a),
        *conv(a, b), nn.MaxPool2d(2), Residual(b),
        *conv(b, c), nn.MaxPool2d(2),
        *conv(c, d), nn.MaxPool2d(2), Residual(d),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(d, 10),
    )  # fmt: skip


if __name__ == "__main__":
    guarded(main)
