"""One layer for two: linear maps one after the other. Plain tensor functions, float64.

I input, M middle, O output channels, G groups, K kernel. Weights are torch's, [O, I/G, K, K].
"""

from math import gcd

import torch
from torch import Tensor


def dense(weight: Tensor, groups: int) -> Tensor:
    """[O, I/G, K, K] as the weight [O, I, K, K] of the same convolution without groups."""
    if groups == 1:
        return weight
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    whole = weight.new_zeros(weight.shape[0], columns * groups, *weight.shape[2:])
    for group in range(groups):
        block = slice(group * rows, (group + 1) * rows)
        whole[block, group * columns : (group + 1) * columns] = weight[block]
    return whole


def composite(
    first: Tensor, second: Tensor, groups: tuple[int, int], steps: tuple[tuple[int, int], tuple[int, int]]
) -> Tensor:
    """The kernel of `second` after `first`: at each place, the sum over M and over the taps that meet there.

    first: [M, I/G₁, K₁, K₁]; second: [O, M/G₂, K₂, K₂]. groups: G₁, G₂. steps: for height and for width, how far apart
    neighbouring taps of the first and of the second are in the composite. Returns [O, I/G, K, K] for
    G = gcd(G₁, G₂) groups.
    """
    common = gcd(*groups)
    blocks = [
        _composite(dense(one, groups[0] // common), dense(two, groups[1] // common), steps)
        for one, two in zip(first.chunk(common), second.chunk(common), strict=True)
    ]
    return torch.cat(blocks)


def _composite(first: Tensor, second: Tensor, steps: tuple[tuple[int, int], tuple[int, int]]) -> Tensor:
    (down, second_down), (right, second_right) = steps
    height, width = (step * (k - 1) + 1 for step, k in zip((down, right), first.shape[2:], strict=True))
    more = (second_down * (second.shape[2] - 1), second_right * (second.shape[3] - 1))
    kernel = first.new_zeros(second.shape[0], first.shape[1], height + more[0], width + more[1])
    for row in range(second.shape[2]):
        for column in range(second.shape[3]):
            top, left = row * second_down, column * second_right
            taps = kernel[:, :, top : top + height : down, left : left + width : right]
            taps += torch.einsum("om,mihw->oihw", second[:, :, row, column], first)
    return kernel


def bias_through(bias: Tensor, second: Tensor, groups: int) -> Tensor:
    """What a bias [M] of the first layer adds to the output of the second, [O, M/G, …]: the sum over its taps, [O]."""
    whole = dense(second, groups)
    return whole.reshape(*whole.shape[:2], -1).sum(2) @ bias
