"""The matrix form of a convolution on sampled positions: what CompNet's regressions see of a feature map.

N images, C channels, H height, W width, P positions of an image, K kernel. A vector is a map of one position.
"""

import torch
from torch import Tensor

from morphs.graph.ops import Conv2d

_PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def draw_positions(images: int, places: int, most: int, generator: torch.Generator) -> Tensor:
    """For each image, P = min(places, most) different positions [N, P], numbered row by row."""
    if places <= most:
        return torch.arange(places).expand(images, places)
    return torch.rand(images, places, generator=generator).topk(most, dim=1).indices


def patches(maps: Tensor, op: Conv2d, positions: Tensor, width: int) -> Tensor:
    """Rows [N·P, C·K·K] that `op` reads from maps [N, C, H, W] at the output positions [N, P]; channel by channel.

    width: of the output map. Padding, stride and dilation are those of `op`.
    """
    (ph, pw), (sh, sw), (dh, dw), (kh, kw) = op.padding, op.stride, op.dilation, op.kernel
    padded = torch.nn.functional.pad(maps, (pw, pw, ph, ph), mode=_PAD[op.padding_mode])
    image = torch.arange(len(maps))[:, None, None, None]
    y = (positions // width * sh)[:, :, None, None] + torch.arange(kh)[:, None] * dh
    x = (positions % width * sw)[:, :, None, None] + torch.arange(kw) * dw
    read = padded.permute(0, 2, 3, 1).contiguous()[image, y, x]  # [N, P, K, K, C]
    return read.permute(0, 1, 4, 2, 3).reshape(positions.numel(), -1)


def pick(maps: Tensor, positions: Tensor) -> Tensor:
    """Rows [N·P, C] of maps [N, C, H, W] at positions [N, P]."""
    flat = maps.flatten(2).transpose(1, 2)
    return flat[torch.arange(len(maps))[:, None], positions].reshape(positions.numel(), -1)
