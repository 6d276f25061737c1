"""One convolution as a sequence of convolutions (paper §3.5, equation 19), solved in float64.

G [C₊, C₋, K] = F_L ⊛ … ⊛ F_1 with given kernels and widths. It is peeled: F_1 and the rest are an ordinary factoring
into two (equation 6), and the rest is factored in turn. The rest may only fill a kernel that the layers after it
can surely hold, so that no step succeeds at the cost of the next one.

A sequence surely holds G when one of its layers has G's kernel or a larger one and no width loses rank.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from morphs.errors import NoFactoring
from morphs.graph.ops import Pair
from morphs.solve.deconv import kernel_of
from morphs.solve.equation import silence
from morphs.solve.factor import factor

MOST_GROWTH = 4.0  # of ‖F_1‖·‖rest‖ / √C over ‖G‖; a rotation has 1
Stage = tuple[Pair, int]  # kernel and output channels of one layer


def composite(kernels: Sequence[Pair]) -> Pair:
    """The kernel of convolutions one after the other, ΣK − (L − 1); 1×1 for none."""
    height, width = (1 + sum(kernel[axis] - 1 for kernel in kernels) for axis in (0, 1))
    return height, width


def surely_holds(outs: int, ins: int, kernel: Pair, stages: Sequence[Stage]) -> bool:
    """Whether any G of this size has an exact factoring into `stages`, which end with `outs` channels."""
    (first, channels), *rest = stages
    if not rest:
        return _covers(first, kernel)
    held = _covers(first, kernel) and channels >= min(outs, ins * prod(kernel))
    if held and surely_holds(outs, channels, (1, 1), rest):
        return True
    passed = kernel != (1, 1) and channels >= min(ins, outs * prod(kernel))
    return passed and surely_holds(outs, channels, kernel, rest)


def factor_sequence(goal: Tensor, stages: Sequence[Stage], generator: torch.Generator) -> list[Tensor]:
    """F_1, …, F_L of equal spread with F_L ⊛ … ⊛ F_1 = `goal`, padded by zeros to their composite kernel (equation 19).

    Raises NoFactoring when no exact factoring was found.
    """
    kernel, whole = kernel_of(goal), composite([k for k, _ in stages])
    if not _covers(whole, kernel):
        raise NoFactoring(f"a path of kernel {whole} can't hold kernel {kernel}; choose larger kernels")
    filters: list[Tensor] = []
    rest = goal
    for place, (kernel, channels) in enumerate(stages[:-1]):
        first, second = _peel(rest, channels, kernel, _room(rest, stages[place:]), generator)
        filters.append(first)
        rest = _cropped(second)
    if filters:
        silence(rest, goal)
    return equal_spread([*filters, centred(rest, stages[-1][0])])


def _peel(
    goal: Tensor, channels: int, kernel: Pair, room: Pair, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """F_1 of `kernel` and the rest of kernel `room`; errors mustn't grow from step to step.

    A factoring with barely enough channels is solved, but with numbers that cancel: there, one of the two becomes a
    random 1×1 rotation.
    """
    found = factor(goal, channels, kernel, room, generator)
    growth = float(found.first.norm() * found.second.norm()) / channels**0.5
    if growth <= MOST_GROWTH * float(goal.norm()):
        return found.first, found.second
    outs, ins = goal.shape[:2]
    inner = kernel_of(goal)
    if _covers(kernel, inner) and channels >= min(outs, ins * prod(inner)):
        return _rotated(goal, channels, kernel, generator)
    if _covers(room, inner) and channels >= min(ins, outs * prod(inner)):
        second, first = _rotated(goal.transpose(0, 1), channels, room, generator)
        return centred(first.transpose(0, 1), kernel), second.transpose(0, 1)
    return found.first, found.second


def _rotated(goal: Tensor, channels: int, kernel: Pair, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vᵀ·G, in `kernel`, and a random 1×1 V with V·Vᵀ·G = G; `channels` hold the rank of G."""
    outs = len(goal)
    basis = torch.eye(outs, dtype=goal.dtype)
    if channels < outs:
        basis = torch.linalg.svd(goal.flatten(1), full_matrices=False)[0][:, :channels]
    noise = torch.randn(channels, basis.shape[1], generator=generator, dtype=goal.dtype)
    rotation = basis @ torch.linalg.qr(noise)[0].T
    first = torch.einsum("oc,oikl->cikl", rotation, goal)
    return centred(first, kernel), rotation[:, :, None, None]


def _room(goal: Tensor, stages: Sequence[Stage]) -> Pair:
    """The largest kernel that the layers after the first may fill; all they have where nothing is sure."""
    outs, ins = goal.shape[:2]
    kernel = kernel_of(goal)
    (first, channels), *rest = stages
    full = composite([k for k, _ in rest])
    rooms = [(height, width) for height in _sizes(full[0]) for width in _sizes(full[1])]
    for room in sorted(rooms, key=prod, reverse=True):
        fits = (_covers(first, kernel) and channels >= min(outs, ins * prod(kernel))) or (
            _covers(room, kernel) and channels >= min(ins, outs * prod(kernel))
        )
        if fits and surely_holds(outs, channels, room, rest):
            return room
    return full


def _sizes(size: int) -> range:
    """`size` and the smaller ones of its parity, which sit in its middle."""
    return range(size, 0, -2)


def _covers(kernel: Pair, other: Pair) -> bool:
    return all(a >= b for a, b in zip(kernel, other, strict=True))


def _cropped(filters: Tensor) -> Tensor:
    """`filters` without the zero rows and columns that lie on both sides alike."""
    filled = (filters != 0).flatten(0, 1).any(0)
    for axis in (0, 1):
        used = torch.nonzero(filled.any(1 - axis)).flatten()
        size = len(filled) if axis == 0 else filled.shape[1]
        side = (size - 1) // 2 if len(used) == 0 else min(int(used[0]), size - 1 - int(used[-1]))
        filters = filters.narrow(2 + axis, side, size - 2 * side)
    return filters


def centred(filters: Tensor, kernel: Pair) -> Tensor:
    """`filters` in the middle of zeros."""
    high, wide = ((new - old) // 2 for new, old in zip(kernel, filters.shape[2:], strict=True))
    return torch.nn.functional.pad(filters, (wide, wide, high, high))


def equal_spread(filters: list[Tensor]) -> list[Tensor]:
    """The same product, with one standard deviation for all factors."""
    spreads = torch.stack([f.std(correction=0) for f in filters])
    if bool((spreads == 0).any()):
        return filters
    mean = spreads.log().mean().exp()
    return [f * (mean / spread) for f, spread in zip(filters, spreads, strict=True)]
