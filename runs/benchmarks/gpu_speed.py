"""Images a second of `nas.train.train` on a GPU, against a loop written for speed alone.

The rival does what records on CIFAR-10 do: all pixels lie normalised on the device, an epoch is mirrored, shifted and
shuffled at once, the network is compiled and computes in bfloat16 and channels-last memory, the optimizer is one fused
kernel, and nothing waits for the device. Same networks, data, batch size, augmentation and optimizer as ours. The two
take turns (ABABAB), each for as many steps; a ratio is that of the median times. The data set is not downloaded.

Without a GPU, `--device cpu` runs the same code, uncompiled: its figures say nothing of a GPU.

    python runs/benchmarks/gpu_speed.py --data-root DIR [--device cuda] [--rounds 5] [--seconds 10] [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from _common import Figure, figure, finish, guarded
from _equal_cost.networks import resnet9
from torch import Tensor, nn

import morphs
from nas.base.errors import UserError
from nas.data import SearchData, Split, load_search_data
from nas.train import TrainConfig, train
from nas.train.precision import native_bf16

WIDTHS = {1: 3, 10: 10, 40: 21, 250: 52}  # of a ResNet-9, by its million multiply-adds for an image
CONFIG = TrainConfig(batch_size=512)
WARM_UP = 20  # steps before the clock starts: compilation, allocations, choice of kernels


def main() -> None:
    """Measure all networks and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-root", type=Path, default=None, help="torchvision's folder of data sets")
    add("--device", default="cuda")
    add("--rounds", type=int, default=5, help="turns of each loop")
    add("--seconds", type=float, default=10.0, help="about so long a turn of the rival")
    add(
        "--quick",
        action="store_true",
        help="seconds: the two small networks, two short turns, smaller batches",
    )
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("there is no GPU (cuda); try the same code with --device cpu")
    widths, config = WIDTHS, CONFIG
    if given.quick:
        widths, config = {1: WIDTHS[1], 10: WIDTHS[10]}, TrainConfig(batch_size=64)
        given.rounds, given.seconds = 2, 0.2
    data = load_search_data("cifar10", given.data_root, seed=0)
    if given.quick:
        data = replace(data, train=data.train.subset(torch.arange(2000)))
    device = torch.device(given.device)
    figures: list[Figure] = []
    for millions, width in widths.items():
        rival, ours = compared(width, data, config, device, given.rounds, given.seconds)
        macs = morphs.cost(resnet9(width, data.input_shape, len(data.classes))).macs
        print(f"{macs / 1e6:.3g} M multiply-adds: rival {rival:,.0f}, ours {ours:,.0f} images/s", flush=True)
        target = ">= 1.0" if device.type == "cuda" else None
        figures += [
            figure(f"{millions} M: ours over the rival", ours / rival, "x", target),
            figure(f"{millions} M: ours", ours, "images/s", None),
        ]
    finish(__file__, figures)


def compared(
    width: int, data: SearchData, config: TrainConfig, device: torch.device, rounds: int, seconds: float
) -> tuple[float, float]:
    """Images a second of the rival and of our loop, by the medians of their turns."""
    network = morphs.init(resnet9(width, data.input_shape, len(data.classes)), seed=0)
    theirs, mine = network.to_torch(), network.to_torch()
    rival = Rival(theirs, data, config, device)

    def ours(steps: int) -> None:
        train(mine, data, steps=steps, config=config, seed=0, device=device)

    loops: tuple[Callable[[int], None], ...] = (rival.run, ours)
    for loop in loops:
        loop(WARM_UP if device.type == "cuda" else 2)
    trial = max(2, WARM_UP // 4)
    steps = max(2, round(seconds * trial / timed(rival.run, trial, device)))
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for loop, times in zip(loops, taken, strict=True):
            times.append(timed(loop, steps, device))
    images = steps * config.batch_size
    return images / median(taken[0]), images / median(taken[1])


def timed(loop: Callable[[int], None], steps: int, device: torch.device) -> float:
    """Seconds that a loop takes for so many steps, until the device has done them."""
    _wait(device)
    began = time.perf_counter()
    loop(steps)
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Rival:
    """The loop written for speed, with its network, optimizer and pixels."""

    def __init__(self, net: nn.Module, data: SearchData, config: TrainConfig, device: torch.device) -> None:
        assert isinstance(data.train, Split)
        self.config, self.device, self.augment = config, device, data.augment
        self.bf16 = native_bf16(device)
        self.net = net.to(device).to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
        self.forward = torch.compile(self.net) if device.type == "cuda" else self.net
        mean, std = (
            torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (data.mean, data.std)
        )
        pixels = torch.as_tensor(data.train.images, device=device).float() / 255
        self.pixels = ((pixels - mean) / std).to(torch.bfloat16 if self.bf16 else torch.float32)
        self.labels = data.train.labels.to(device)
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=config.lr, momentum=config.momentum, nesterov=True,
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip

    def run(self, steps: int) -> None:
        """Train for some steps at a rate that falls to zero."""
        criterion = nn.CrossEntropyLoss(label_smoothing=self.config.label_smoothing)
        batches = self.batches()
        for step in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.lr * (1 - step / steps)
            x, y = next(batches)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = criterion(self.forward(x).float(), y)
            loss.backward()
            self.optimizer.step()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches without end, an epoch augmented at once."""
        size = self.config.batch_size
        while True:
            images = self.augmented()
            order = torch.randperm(len(images), device=self.device)
            for start in range(0, len(images) - size + 1, size):
                chosen = order[start : start + size]
                yield images[chosen].contiguous(memory_format=torch.channels_last), self.labels[chosen]

    def augmented(self) -> Tensor:
        """All pixels [N, C, H, W], each image mirrored or not, and shifted by up to `crop` pixels both ways."""
        images, crop = self.pixels, self.augment.crop
        if self.augment.flip:
            mirrored = torch.rand(len(images), 1, 1, 1, device=self.device) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        if not crop:
            return images
        height, width = images.shape[2:]
        padded = nn.functional.pad(images, (crop,) * 4, mode="reflect")
        moved = torch.empty_like(images)
        down, right = torch.randint(2 * crop + 1, (2, len(images)), device=self.device)
        for dy in range(2 * crop + 1):
            for dx in range(2 * crop + 1):
                at = (down == dy) & (right == dx)
                moved[at] = padded[at, :, dy : dy + height, dx : dx + width]
        return moved


if __name__ == "__main__":
    guarded(main)
