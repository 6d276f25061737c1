"""The network morphism equation G̃ = F2 ⊛ F1 (paper §3.1–3.2, equation 6), solved exactly or refused.

A convolution with G [C₊, C₋, K] is replaced by F1 [C, C₋, K1] followed by F2 [C₊, C, K2]; their composite has
kernel K̃ = K1 + K2 − 1, and G̃ is G padded by zeros to K̃. Kernels are pairs (height, width); a matrix product is
the case K = K1 = K2 = 1. With groups, each group of channels is a factoring of its own. Everything is float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, prod, sqrt

import torch
from torch import Tensor

from morphs.errors import NoFactoring
from morphs.graph.ops import Pair
from morphs.solve.deconv import deconv, kernel_of
from morphs.solve.ends import end, ends, matrix
from morphs.solve.equation import Equation, Factors, noise, place, silence

RESIDUAL = 1e-12  # relative, in the largest entry: what counts as solved
CONDITION = 1e3  # of the decoupled matrix: beyond it float32 drifts, so a solution is not used
MARGIN = 1.5  # unknowns for each equation with which a random system was never seen ill conditioned
DRAWS, REDRAWN = 3, 512  # a random start is drawn again for systems of at most so many equations
WIDE = 1.0  # spread of the factors over that of G: wider ones lose digits in float32, and another draw may do better
SWEEPS, LOOK = 200, 5  # of an alternation: the most, and after how many its progress is judged
ALTERNATION_FLOPS = 3e10  # of all groups together: a second or so
SWEEP_FLOPS = 1e8  # what the calls of a sweep cost, however small the system


@dataclass(frozen=True)
class Factoring:
    """F1 and F2 with equal spread, and the relative residual of their product.

    spread: the factors' common standard deviation divided by G's.
    """

    first: Tensor
    second: Tensor
    residual: float
    spread: float


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
    kernel = kernel_of(target)
    if any(a + b - 1 < k for a, b, k in zip(first, second, kernel, strict=True)):
        raise NoFactoring(f"kernels {first} and {second} don't hold {kernel}; choose larger ones")
    middle = ((first[0] + second[0] - 1 - kernel[0]) // 2, (first[1] + second[1] - 1 - kernel[1]) // 2)
    equations = [
        Equation(goal, channels // groups, first, second, at or middle)
        for goal in target.double().chunk(groups)
    ]
    parts: list[tuple[Tensor, Tensor, float, float]] = []
    for equation in equations:
        found = _solve(equation, generator, ALTERNATION_FLOPS / groups)
        if found is None:
            raise NoFactoring(_why_not(equations, generator))
        parts.append(found)
    one, two, spread, residual = parts[0]
    if groups > 1:
        one, two = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        spread = _balance(one, two)
        residual = max(part[3] for part in parts)
    return Factoring(one, two, residual, spread / (_spread(target.double()) or 1.0))


def least_sure_channels(outs: int, ins: int, kernel: Pair, one: Pair, two: Pair) -> int:
    """So many channels have an exact factoring for any weights; `outs`, `ins` and they are those of one group."""
    return min(_sure_channels(outs, ins, kernel, one, two))


def _sure_channels(outs: int, ins: int, kernel: Pair, one: Pair, two: Pair) -> list[int]:
    """Numbers of channels each of which is enough for any weights: condition 7 with a margin, and the ends."""
    composite = prod(a + b - 1 for a, b in zip(one, two, strict=True))
    needs = [
        ceil(MARGIN * outs * composite / prod(one)),
        ceil(MARGIN * ins * composite / prod(two)),
    ]
    for held in ends(kernel, one, two):
        high, wide = (
            prod(k for k, by in zip(kernel, held, strict=True) if by == factor) for factor in (1, 0)
        )
        needs.append(min(outs * high, ins * wide))
    return needs


def _solve(
    equation: Equation, generator: torch.Generator, flops: float = 0.0
) -> tuple[Tensor, Tensor, float, float] | None:
    """F1, F2, their spread and the residual of the first attempt that is exact and well conditioned.

    For a small system with factors of uneven size, the narrowest of up to DRAWS attempts. flops: what alternation may
    cost.
    """
    found: list[tuple[Tensor, Tensor, float, float]] = []
    for first, second, condition in _attempts(equation, generator, flops):
        if condition <= CONDITION:
            silence(second, equation.goal)
            spread = _balance(first, second)
            residual = equation.residual(first, second)
            if residual <= RESIDUAL:
                found.append((first, second, spread, residual))
                if spread <= WIDE * _spread(equation.goal) or len(found) == _draws(equation):
                    break
    return min(found, key=lambda one: one[2], default=None)


def _draws(equation: Equation) -> int:
    """How many random starts the smaller system is worth."""
    return DRAWS if min(equation.goal.shape[:2]) * prod(equation.composite) <= REDRAWN else 1


def _attempts(equation: Equation, generator: torch.Generator, flops: float) -> Iterator[Factors]:
    """Factors that may do, those that fill most of their kernels first."""
    promising = _unknowns(equation) >= equation.goal[:, :, 0, 0].numel() * prod(equation.composite)
    yield from _one_step(equation, generator)
    if promising:
        yield from _alternate(equation, generator, flops)
    for step in range(1, max(*equation.one, *equation.two)):
        yield from _shrunk(equation, step, generator)
        for first, second, condition in _shrunk(equation.mirrored, step, generator):
            yield second.transpose(0, 1), first.transpose(0, 1), condition
    for held in ends(equation.kernel, equation.one, equation.two):
        yield end(equation, held, generator)
    if not promising:  # weights may be special
        yield from _alternate(equation, generator, flops)


def _one_step(equation: Equation, generator: torch.Generator) -> Iterator[Factors]:
    """One factor random, the other solved for (Algorithm 1 with one iteration), the smaller system first."""
    outs, ins = equation.goal.shape[:2]
    size = prod(equation.composite)
    systems = [
        (ins * size, equation.channels * prod(equation.two), False, equation.one),
        (outs * size, equation.channels * prod(equation.one), True, equation.two),
    ]
    for equations, unknowns, mirrored, known in sorted(systems):
        if unknowns < equations or known == (1, 1):  # a 1×1 factor is chosen better at the end
            continue
        for _ in range(DRAWS if equations <= REDRAWN else 1):
            if mirrored:
                first, second, condition = _from_random(equation.mirrored, generator)
                yield second.transpose(0, 1), first.transpose(0, 1), condition
            else:
                yield _from_random(equation, generator)


def _from_random(equation: Equation, generator: torch.Generator) -> Factors:
    first = noise((equation.channels, equation.goal.shape[1], *equation.one), generator)
    second, condition = deconv(first, equation.padded, equation.two)
    return first, second, condition


def _unknowns(equation: Equation) -> int:
    """Free numbers of both factors, less those that only change the basis between them."""
    outs, ins = equation.goal.shape[:2]
    return equation.channels * (ins * prod(equation.one) + outs * prod(equation.two)) - equation.channels**2


def _alternate(equation: Equation, generator: torch.Generator, flops: float) -> Iterator[Factors]:
    """Algorithm 1: F2 and F1 in turn from random noise, given up as soon as it is too slow."""
    last = not any(ends(equation.kernel, equation.one, equation.two))  # nothing else would be tried
    sweeps = min(SWEEPS, int((10 if last else 1) * flops / _sweep_flops(equation)))
    if (1, 1) in (equation.one, equation.two) or sweeps < 4 * LOOK:
        return  # the ends decide already, or it would cost too much
    for _ in range(_draws(equation)):
        first = noise((equation.channels, equation.goal.shape[1], *equation.one), generator)
        found = _in_turn(equation, first, sweeps, 4.0 if last else 1.5)
        if found is None:
            return
        yield found


def _in_turn(equation: Equation, first: Tensor, sweeps: int, patience: float) -> Factors | None:
    """At most so many sweeps from `first`; none once the progress hoped for no longer reaches an exact solution."""
    goal, before = equation.padded, 0.0
    for sweep in range(1, sweeps + 1):
        second, _ = deconv(first, goal, equation.two)
        turned, condition = deconv(second.transpose(0, 1), goal.transpose(0, 1), equation.one)
        first = turned.transpose(0, 1)
        now = equation.residual(first, second)
        if now <= RESIDUAL:
            return first, second, condition
        if sweep % LOOK == 0:
            hoped = patience * (sweeps - sweep) / LOOK  # convergence often quickens
            if before and now * (now / before) ** hoped > RESIDUAL:
                return None
            before = now
    return None


def _sweep_flops(equation: Equation) -> float:
    """Of the two solves of a sweep, roughly: Cholesky factors and substitutions."""
    outs, ins = equation.goal.shape[:2]
    total = SWEEP_FLOPS
    for rows, taps, cols in ((outs, prod(equation.two), ins), (ins, prod(equation.one), outs)):
        size = min(equation.channels * taps, cols * prod(equation.composite))
        total += size**3 / 3 + 8 * size * equation.channels * taps + 6 * size**2 * rows
    return total


def _shrunk(equation: Equation, step: int, generator: torch.Generator) -> Iterator[Factors]:
    """Algorithm 2 for 'F1 expands G': F1 full, the effective kernel of F2 smaller by `step` on each axis."""
    small = (max(1, equation.two[0] - step), max(1, equation.two[1] - step))
    starts: list[int] = []
    for full, part, one, kernel, at in zip(
        equation.two, small, equation.one, equation.kernel, equation.at, strict=True
    ):
        least, most = max(0, at + kernel - one - part + 1), min(at, full - part)
        if least > most:
            return  # G no longer fits
        starts.append(min(max((full - part) // 2, least), most))
    top, left = starts
    inner = Equation(
        equation.goal, equation.channels, equation.one, small, (equation.at[0] - top, equation.at[1] - left)
    )
    for first, second, condition in _one_step(inner, generator):
        yield first, place(second, (top, left), equation.two), condition


def _balance(first: Tensor, second: Tensor) -> float:
    """Scale both, in place, to the same spread, and return it: one by s, the other by 1/s, which keeps the product."""
    spread1, spread2 = _spread(first), _spread(second)
    if not (spread1 > 0 and spread2 > 0):
        return spread1
    scale = sqrt(spread2 / spread1)
    first.mul_(scale)
    second.div_(scale)
    return spread1 * scale


def _spread(filters: Tensor) -> float:
    """Standard deviation; of a single number its size."""
    if filters.numel() == 1:
        return float(filters.abs())
    flat = filters.flatten()
    square, mean = float(flat @ flat) / len(flat), float(flat.mean())
    if square < 2 * mean**2:  # digits cancel in the formula below, which is three times as fast
        return float(flat.std(correction=0))
    return sqrt(square - mean**2)


def _why_not(equations: list[Equation], generator: torch.Generator) -> str:
    """Why no exact factoring was found, and a number of channels that was seen to work."""
    equation, groups = equations[0], len(equations)
    outs, ins = equation.goal.shape[:2]
    tries = set(_sure_channels(outs, ins, equation.kernel, equation.one, equation.two))
    for held in ends(equation.kernel, equation.one, equation.two):
        tries.add(max(int(torch.linalg.matrix_rank(matrix(one.goal, held))) for one in equations))
    works = next(
        (
            n
            for n in sorted(tries)
            if n > equation.channels and all(_solve(replace(one, channels=n), generator) for one in equations)
        ),
        None,
    )
    remedy = "choose other kernels" if works is None else f"use {works * groups} channels or more"
    return (
        f"no exact factoring of {outs * groups}×{ins * groups} channels, kernel {equation.kernel}, into kernels "
        f"{equation.one} and {equation.two} with {equation.channels * groups} channels between was found; {remedy}"
    )
