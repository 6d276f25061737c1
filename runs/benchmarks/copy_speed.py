"""How fast the module that `to_torch` gives back is, against the module that it was copied from.

Forward and backward pass of a ResNet-50 on 64×64 images and of a small vision transformer, both in train mode, the
two modules in turn, so that a busy machine slows both alike; a model's figure is the median of the ratios of
neighbours. And whether the copy compiles with torch.compile, and then computes what it did. Target: 0.95 to 1.05 of
the original's time.

    python runs/benchmarks/copy_speed.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from _common import Figure, figure, finish
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.vision_transformer import VisionTransformer

import morphs


def small_vit() -> nn.Module:
    """Six blocks of 192 features and 3 heads on 64 patches of 8×8."""
    model = VisionTransformer(64, 8, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=100)
    nn.init.normal_(model.heads[-1].weight, std=0.02)  # it begins at zero, and the outputs with it
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {"ResNet-50": resnet50, "small ViT": small_vit}


def step(module: nn.Module, images: Tensor) -> float:
    """Processor seconds of a forward and a backward pass."""
    begin = time.process_time()
    module(images).sum().backward()
    spent = time.process_time() - begin
    module.zero_grad()
    return spent


def speed(name: str, quick: bool) -> list[Figure]:
    """The copy's time over the original's."""
    torch.manual_seed(0)
    module, images = MODELS[name](), torch.randn(2 if quick else 8, 3, 64, 64)
    copy = morphs.from_torch(module, images[:2]).to_torch()
    module.train()
    for one in (module, copy):
        step(one, images)
    ratios: list[float] = []
    for number in range(4 if quick else 16):
        first, second = (module, copy) if number % 2 else (copy, module)
        seconds = {id(one): step(one, images) for one in (first, second)}
        ratios.append(seconds[id(copy)] / seconds[id(module)])
    found, spread = median(ratios), quantiles(ratios)
    return [
        figure(
            f"{name}: copy's time over the original's, median of {len(ratios)}", found, "times", "<= 1.05"
        ),
        figure(f"{name}: the same, no less than", found, "times", ">= 0.95"),
        figure(f"{name}: the same, quarter to quarter", spread[2] - spread[0], "times", None),
    ]


def compiles(name: str) -> list[Figure]:
    """Whether the copy compiles, by the largest difference of its outputs relative to the largest output."""
    torch.manual_seed(0)
    module, images = MODELS[name]().eval(), torch.randn(2, 3, 64, 64)
    copy = morphs.from_torch(module, images).to_torch().eval()
    with torch.no_grad():
        wanted = copy(images)
        got = torch.compile(copy)(images)
    error = float((got - wanted).abs().max() / wanted.abs().max())
    return [figure(f"{name}: compiled copy differs from the copy by", error, "", "<= 1e-4")]


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small batches, few repeats, nothing compiled")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = [found for name in MODELS for found in speed(name, options.quick)]
    if not options.quick and any(map(shutil.which, ("c++", "g++", "clang++"))):
        figures += [found for name in MODELS for found in compiles(name)]
    finish(__file__, figures)


if __name__ == "__main__":
    main()
