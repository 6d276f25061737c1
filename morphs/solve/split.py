"""One convolution as a sum of sequences of convolutions (paper §3.5, equation 20, figure 6 (c)).

C₊, C₋ output and input channels of G, K its kernel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from morphs.errors import NoFactoring
from morphs.graph.ops import Pair
from morphs.solve.deconv import compose, kernel_of
from morphs.solve.equation import silence
from morphs.solve.sequence import Stage, centred, equal_spread, factor_sequence, surely_holds


def factor_sum(
    goal: Tensor, paths: Sequence[Sequence[Stage]], generator: torch.Generator
) -> list[list[Tensor]]:
    """The filters of every path, so that the paths' composites sum to G = `goal` (equation 20).

    An empty path is the identity. Paths that may be unable to hold G get random filters of a share of its size, and
    what then remains of G is split at random, entry by entry, among those that surely hold it (the last one tries
    where none does). Raises NoFactoring when that one can't.
    """
    outs, ins = goal.shape[:2]
    kernel = kernel_of(goal)
    sure = [place for place, path in enumerate(paths) if path and surely_holds(outs, ins, kernel, path)]
    solved = sure or [max(place for place, path in enumerate(paths) if path)]
    found: dict[int, list[Tensor]] = {}
    rest = goal.double()
    for place, path in enumerate(paths):
        if place not in solved:
            found[place], part = _random_path(goal, path, len(paths), generator)
            rest = rest - part
    shares = torch.rand(len(solved), *goal.shape, generator=generator, dtype=torch.float64)
    for place, share in zip(solved, shares / shares.sum(0), strict=True):
        found[place] = factor_sequence(share * rest, paths[place], generator)
    return [found[place] for place in range(len(paths))]


def _random_path(
    goal: Tensor, stages: Sequence[Stage], paths: int, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Random filters for `stages`, and their composite, cut to the kernel of `goal`: it has 1/`paths` of its size.

    They fill no more of their kernels than composes to the kernel of `goal`.
    """
    outs, ins = goal.shape[:2]
    kernel = kernel_of(goal)
    if not stages:
        identity = torch.eye(outs, ins, dtype=torch.float64)[:, :, None, None]
        return [], centred(identity, kernel)
    supports = fitting([k for k, _ in stages], kernel)
    filters: list[Tensor] = []
    product = torch.eye(ins, dtype=torch.float64)[:, :, None, None]
    for place, (support, (_, channels)) in enumerate(zip(supports, stages, strict=True), 1):
        drawn = torch.randn(channels, len(product), *support, generator=generator, dtype=torch.float64)
        if place == len(stages):
            silence(drawn, goal)
        filters.append(drawn)
        product = compose(product, drawn)
    product = centred(product, kernel)
    wanted = float(goal.double().square().mean().sqrt()) or 1.0
    scale = wanted / paths / float(product.square().mean().sqrt())
    filters = equal_spread(filters)
    filters = [f * scale ** (1 / len(filters)) for f in filters]
    return [centred(f, k) for f, (k, _) in zip(filters, stages, strict=True)], product * scale


def fitting(kernels: Sequence[Pair], kernel: Pair) -> list[Pair]:
    """The largest parts of `kernels`, each of its parity, that compose to `kernel` at most; the first grow first.

    Raises NoFactoring when even the smallest don't fit.
    """
    per_axis: list[list[int]] = []
    for axis in (0, 1):
        parts = [2 - k[axis] % 2 for k in kernels]
        room = kernel[axis] - 1 - sum(part - 1 for part in parts)
        if room < 0 or room % 2:
            raise NoFactoring(
                f"kernels {', '.join(map(str, kernels))} have no common middle with {kernel}; use odd ones"
            )
        for place, k in enumerate(kernels):
            more = min(k[axis] - parts[place], room)
            parts[place] += more
            room -= more
        per_axis.append(parts)
    return [(height, width) for height, width in zip(*per_axis, strict=True)]
