"""The network morphism equation G̃ = F2 ⊛ F1 (paper §3.1–3.2, equation 6), solved exactly or refused.

A convolution with G [C₊, C₋, K] is replaced by F1 [C, C₋, K1] followed by F2 [C₊, C, K2]; their composite has
kernel K̃ = K1 + K2 − 1, and G̃ is G padded by zeros to K̃. Kernels are pairs (height, width); a matrix product is
the case K = K1 = K2 = 1. With groups, each group of channels is a factoring of its own. Everything is float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod, sqrt

import torch
from torch import Tensor
from torch.nn.functional import pad

from morphs.errors import NoFactoring
from morphs.graph.ops import Pair
from morphs.solve.deconv import compose, deconv

RESIDUAL = 1e-12  # relative, in the largest entry: what counts as solved
CONDITION = 1e3  # of the decoupled matrix: beyond it float32 drifts, so a solution is not used
MARGIN = 1.5  # unknowns for each equation with which a random system was never seen ill conditioned
DRAWS, REDRAWN = 3, 512  # a random start is drawn again for systems of at most so many equations
SWEEPS, LOOK = 200, 5  # of an alternation: the most, and after how many its progress is judged
ALTERNATION_FLOPS = 3e10  # of all groups together: a second or so
SWEEP_FLOPS = 1e8  # what the calls of a sweep cost, however small the system

Factors = tuple[Tensor, Tensor, float]  # F1, F2 and the condition of the system that gave them


@dataclass(frozen=True)
class Factoring:
    """F1 and F2 with equal spread, and the relative residual of their product.

    spread: the factors' common standard deviation divided by G's.
    """

    first: Tensor
    second: Tensor
    residual: float
    spread: float

    @property
    def support(self) -> tuple[Pair, Pair]:
        """Rows and columns of F1's and F2's kernels that are not all zero."""
        return _support(self.first), _support(self.second)


@dataclass(frozen=True)
class _Task:
    """G [C₊, C₋, K] of one group, the number of channels between and where G sits in the composite kernel."""

    goal: Tensor
    channels: int
    one: Pair
    two: Pair
    at: Pair

    @property
    def kernel(self) -> Pair:
        return int(self.goal.shape[2]), int(self.goal.shape[3])

    @property
    def composite(self) -> Pair:
        return self.one[0] + self.two[0] - 1, self.one[1] + self.two[1] - 1

    @property
    def mirrored(self) -> "_Task":
        """The same equation transposed: G̃ᵀ = F1ᵀ ⊛ F2ᵀ."""
        return _Task(self.goal.transpose(0, 1), self.channels, self.two, self.one, self.at)

    @cached_property
    def padded(self) -> Tensor:
        return _place(self.goal, self.at, self.composite)


def factor(
    target: Tensor,
    channels: int,
    first: Pair,
    second: Pair,
    generator: torch.Generator,
    groups: int = 1,
    at: Pair | None = None,
) -> Factoring:
    """An exact factoring of G = `target` [C₊, C₋ / groups, K] with `channels` between kernels `first` and `second`.

    at: the place (top, left) of G inside the composite kernel; its middle by default.

    One linear solve where condition 7 holds and the system is well conditioned; Algorithm 1 (alternation) where
    both factors together have unknowns enough; then Algorithm 2: the effective kernel of one factor shrinks,
    down to 1 on each axis, and the factor is padded with zeros.

    Raises NoFactoring, naming a number of channels that works, when none of it is exact.
    """
    if channels % groups:
        raise NoFactoring(
            f"{channels} channels don't part into {groups} groups; choose a multiple of {groups}"
        )
    kernel = int(target.shape[2]), int(target.shape[3])
    if any(a + b - 1 < k for a, b, k in zip(first, second, kernel, strict=True)):
        raise NoFactoring(f"kernels {first} and {second} don't hold {kernel}; choose larger ones")
    middle = ((first[0] + second[0] - 1 - kernel[0]) // 2, (first[1] + second[1] - 1 - kernel[1]) // 2)
    tasks = [
        _Task(goal, channels // groups, first, second, at or middle) for goal in target.double().chunk(groups)
    ]
    parts: list[tuple[Tensor, Tensor, float, float]] = []
    for task in tasks:
        found = _solve(task, generator, ALTERNATION_FLOPS / groups)
        if found is None:
            raise NoFactoring(_why_not(tasks, generator))
        parts.append(found)
    one, two, spread, residual = parts[0]
    if groups > 1:
        one, two = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        one, two, spread = _balanced(one, two)
        residual = max(part[3] for part in parts)
    return Factoring(one, two, residual, spread / (_spread(target.double()) or 1.0))


def surely_factors(outs: int, ins: int, kernel: Pair, channels: int, one: Pair, two: Pair) -> bool:
    """Whether an exact factoring is found for any weights; `outs`, `ins` and `channels` are those of one group."""
    return channels >= min(_sure_channels(outs, ins, kernel, one, two), default=channels + 1)


def _sure_channels(outs: int, ins: int, kernel: Pair, one: Pair, two: Pair) -> list[int]:
    """Numbers of channels each of which is enough for any weights: condition 7 with a margin, and the ends."""
    composite = prod(a + b - 1 for a, b in zip(one, two, strict=True))
    needs = [
        ceil(MARGIN * outs * composite / prod(one)),
        ceil(MARGIN * ins * composite / prod(two)),
    ]
    for held in _ends(kernel, one, two):
        high, wide = (
            prod(k for k, by in zip(kernel, held, strict=True) if by == factor) for factor in (1, 0)
        )
        needs.append(min(outs * high, ins * wide))
    return needs


def _solve(
    task: _Task, generator: torch.Generator, flops: float = 0.0
) -> tuple[Tensor, Tensor, float, float] | None:
    """F1, F2, their spread and the residual of the first attempt that is exact and well conditioned.

    flops: what alternation may cost.
    """
    for *factors, condition in _attempts(task, generator, flops):
        if condition <= CONDITION:
            first, second, spread = _balanced(*factors)
            residual = _residual(task.padded, first, second)
            if residual <= RESIDUAL:
                return first, second, spread, residual
    return None


def _attempts(task: _Task, generator: torch.Generator, flops: float) -> Iterator[Factors]:
    """Factors that may do, those that fill most of their kernels first."""
    promising = _unknowns(task) >= task.goal[:, :, 0, 0].numel() * prod(task.composite)
    yield from _one_step(task, generator)
    if promising:
        yield from _alternate(task, generator, flops)
    for step in range(1, max(*task.one, *task.two)):
        yield from _shrunk(task, step, generator)
        for first, second, condition in _shrunk(task.mirrored, step, generator):
            yield second.transpose(0, 1), first.transpose(0, 1), condition
    for held in _ends(task.kernel, task.one, task.two):
        yield _end(task, held, generator)
    if not promising:  # weights may be special
        yield from _alternate(task, generator, flops)


def _one_step(task: _Task, generator: torch.Generator) -> Iterator[Factors]:
    """One factor random, the other solved for (Algorithm 1 with one iteration), the smaller system first."""
    outs, ins = task.goal.shape[:2]
    size = prod(task.composite)
    systems = [
        (ins * size, task.channels * prod(task.two), False, task.one),
        (outs * size, task.channels * prod(task.one), True, task.two),
    ]
    for equations, unknowns, mirrored, known in sorted(systems):
        if unknowns < equations or known == (1, 1):  # a 1×1 factor is chosen better at the end
            continue
        for _ in range(DRAWS if equations <= REDRAWN else 1):
            if mirrored:
                first, second, condition = _from_random(task.mirrored, generator)
                yield second.transpose(0, 1), first.transpose(0, 1), condition
            else:
                yield _from_random(task, generator)


def _from_random(task: _Task, generator: torch.Generator) -> Factors:
    first = _noise((task.channels, task.goal.shape[1], *task.one), generator)
    second, condition = deconv(first, task.padded, task.two)
    return first, second, condition


def _unknowns(task: _Task) -> int:
    """Free numbers of both factors, less those that only change the basis between them."""
    outs, ins = task.goal.shape[:2]
    return task.channels * (ins * prod(task.one) + outs * prod(task.two)) - task.channels**2


def _alternate(task: _Task, generator: torch.Generator, flops: float) -> Iterator[Factors]:
    """Algorithm 1: F2 and F1 in turn from random noise, given up as soon as it is too slow."""
    last = not any(_ends(task.kernel, task.one, task.two))  # nothing else would be tried
    goal, sweeps = task.padded, min(SWEEPS, int((10 if last else 1) * flops / _sweep_flops(task)))
    if (1, 1) in (task.one, task.two) or sweeps < 4 * LOOK:
        return  # the ends tell already, or it would cost too much
    first, before = _noise((task.channels, goal.shape[1], *task.one), generator), 0.0
    for sweep in range(1, sweeps + 1):
        second, _ = deconv(first, goal, task.two)
        turned, condition = deconv(second.transpose(0, 1), goal.transpose(0, 1), task.one)
        first = turned.transpose(0, 1)
        now = _residual(goal, first, second)
        if now <= RESIDUAL:
            yield first, second, condition
            return
        if sweep % LOOK == 0:
            hoped = (4 if last else 1.5) * (sweeps - sweep) / LOOK  # convergence often quickens
            if before and now * (now / before) ** hoped > RESIDUAL:
                return
            before = now


def _sweep_flops(task: _Task) -> float:
    """Of the two solves of a sweep, roughly: Cholesky factors and substitutions."""
    outs, ins = task.goal.shape[:2]
    total = SWEEP_FLOPS
    for rows, taps, cols in ((outs, prod(task.two), ins), (ins, prod(task.one), outs)):
        size = min(task.channels * taps, cols * prod(task.composite))
        total += size**3 / 3 + 8 * size * task.channels * taps + 6 * size**2 * rows
    return total


def _shrunk(task: _Task, step: int, generator: torch.Generator) -> Iterator[Factors]:
    """Algorithm 2 for 'F1 expands G': F1 full, the effective kernel of F2 smaller by `step` on each axis."""
    small = (max(1, task.two[0] - step), max(1, task.two[1] - step))
    starts: list[int] = []
    for full, part, one, kernel, at in zip(task.two, small, task.one, task.kernel, task.at, strict=True):
        least, most = max(0, at + kernel - one - part + 1), min(at, full - part)
        if least > most:
            return  # G no longer fits
        starts.append(min(max((full - part) // 2, least), most))
    top, left = starts
    inner = _Task(task.goal, task.channels, task.one, small, (task.at[0] - top, task.at[1] - left))
    for first, second, condition in _one_step(inner, generator):
        yield first, _place(second, (top, left), task.two), condition


def _ends(kernel: Pair, one: Pair, two: Pair) -> Iterator[Pair]:
    """Which factor (0: F1, 1: F2) holds all of G along each axis, the other having one effective tap there."""
    for held in ((0, 0), (1, 1), (0, 1), (1, 0)):
        if all((one, two)[by][axis] >= kernel[axis] for axis, by in enumerate(held)):
            yield held


def _end(task: _Task, held: Pair, generator: torch.Generator) -> Factors:
    """The end of Algorithm 2, a product of two matrices: exact if and only if C ≥ the rank of G, reshaped.

    Its rows are C₊ and the axes that F2 holds, its columns C₋ and the axes that F1 holds.
    """
    left, right = _product(_matrix(task.goal, held), task.channels, generator)
    sizes = [[k if by == factor else 1 for k, by in zip(task.kernel, held, strict=True)] for factor in (0, 1)]
    first = right.reshape(task.channels, task.goal.shape[1], *sizes[0])
    second = left.reshape(task.goal.shape[0], *sizes[1], task.channels).movedim(3, 1)
    starts: list[Pair] = []  # of F1 and F2 along each axis; both sum to `at`
    for by, one, two, kernel, at in zip(held, task.one, task.two, task.kernel, task.at, strict=True):
        holder, other = (two, one) if by else (one, two)
        tap = min(max((other - 1) // 2, at + kernel - holder), at)  # of the factor that has one
        starts.append((tap, at - tap) if by else (at - tap, tap))
    (top1, top2), (left1, left2) = starts
    return _place(first, (top1, left1), task.one), _place(second, (top2, left2), task.two), 1.0


def _matrix(goal: Tensor, held: Pair) -> Tensor:
    rows = [0, *(2 + axis for axis in (0, 1) if held[axis])]
    turned = goal.permute(*rows, *(axis for axis in (1, 2, 3) if axis not in rows))
    return turned.reshape(prod(turned.shape[: len(rows)]), -1)


def _product(matrix: Tensor, inner: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`matrix` [R, S] as left [R, inner] @ right [inner, S], exact if inner ≥ its rank; the smaller one random.

    With inner ≥ R the rows of `left` are orthonormal; with fewer they are the coordinates, in random orthonormal
    directions, of an orthonormal basis of the columns of `matrix`. Mirrored where S is smaller.
    """
    high, wide = matrix.shape
    if wide < high:
        left, right = _product(matrix.T, inner, generator)
        return right.T, left.T
    mixing = _orthonormal(_noise((min(high, inner), inner), generator))
    if inner < high:
        mixing = torch.linalg.svd(matrix, full_matrices=False)[0][:, :inner] @ mixing
    return mixing, mixing.T @ matrix


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows: by Cholesky where they are far from dependent, which is faster than QR."""
    if rows.shape[1] < 2 * rows.shape[0]:
        return torch.linalg.qr(rows.T)[0].T
    return torch.linalg.solve_triangular(torch.linalg.cholesky(rows @ rows.T), rows, upper=False)


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)  # float32 is random enough, and several times faster
    return noise.double() / sqrt(max(1, prod(shape[1:])))


def _place(filters: Tensor, at: Pair, kernel: Pair) -> Tensor:
    """`filters` at (top, left) of a larger kernel of zeros."""
    height, width = filters.shape[2:]
    if (height, width) == kernel:
        return filters
    return pad(filters, (at[1], kernel[1] - width - at[1], at[0], kernel[0] - height - at[0]))


def _residual(padded: Tensor, first: Tensor, second: Tensor) -> float:
    """Largest error of the product, relative to the largest entry of G."""
    error = float((compose(first, second) - padded).abs().max())
    return error / (float(padded.abs().max()) or 1.0)


def _balanced(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, float]:
    """Both with the same spread, and that: one times s, the other times 1/s, which keeps their product."""
    spread1, spread2 = _spread(first), _spread(second)
    if not (spread1 > 0 and spread2 > 0):
        return first, second, spread1
    scale = sqrt(spread2 / spread1)
    return first * scale, second / scale, spread1 * scale


def _spread(filters: Tensor) -> float:
    """Standard deviation; of a single number its size."""
    return float(filters.std(correction=0) if filters.numel() > 1 else filters.abs())


def _support(factor: Tensor) -> Pair:
    """Rows and columns of the kernel that are not all zero."""
    filled = (factor != 0).flatten(0, 1).any(0)
    return int(filled.any(1).sum()), int(filled.any(0).sum())


def _why_not(tasks: list[_Task], generator: torch.Generator) -> str:
    """Why no exact factoring was found, and a number of channels that was seen to work."""
    task, groups = tasks[0], len(tasks)
    outs, ins = task.goal.shape[:2]
    tries = set(_sure_channels(outs, ins, task.kernel, task.one, task.two))
    for held in _ends(task.kernel, task.one, task.two):
        tries.add(max(int(torch.linalg.matrix_rank(_matrix(t.goal, held))) for t in tasks))
    works = next(
        (
            n
            for n in sorted(tries)
            if n > task.channels
            and all(_solve(_Task(t.goal, n, t.one, t.two, t.at), generator) for t in tasks)
        ),
        None,
    )
    remedy = "choose other kernels" if works is None else f"use {works * groups} channels or more"
    return (
        f"no exact factoring of {outs * groups}×{ins * groups} channels, kernel {task.kernel}, into kernels {task.one} "
        f"and {task.two} with {task.channels * groups} channels between was found; {remedy}"
    )
