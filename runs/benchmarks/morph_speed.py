"""How fast and how lean the moves are, against what the hardware must do in any case.

Parts, each a function that returns figures (`--part` chooses some):

copies     moves that only copy against a plain memory copy: see _morph_copies.py. Target: at most 2 times.
large      a ResNet-50, densenet201 and VGG-16: import, listing, a measured move, its memory. See _morph_large.py.
sites      listing every site of a ResNet-50, limits checked: thousands in at most a second of processor time.
factoring  the exact factoring of a 3×3 convolution with C channels in and out and 4·C between, into 3×3∘3×3 and
           3×3∘1×1, against a floor of flops at the rate of float64 matrix products measured in the same run,
           interleaved. One thread, processor seconds. Target: at most 3 times the floor, residual at most 1e-12.
memory     peak memory of the same factorings as moves, in a process of their own, above what it held before. Target:
           at most 3 times the float64 weights of parent and child, one decoupled system and two Gram matrices.

The floor. With F1 fixed the unknowns of F2 decouple over output channels into one matrix of C·K2² unknowns and
m = C₋·K̃² equations, K̃ = K1 + K2 − 1 (with F2 fixed the same with C₊). Its smaller Gram matrix, m × m, is made of
the products of F1 with itself, shifted. In flops:

    Gram       2·C·(C₋·K1²)²            products of every two taps of F1
    Cholesky   m³ / 3
    solves     2·m²·C₊                  two triangular solves for C₊ right-hand sides
    back       2·C₊·C·K2²·C₋·K1²        from the equations to the unknowns

For 3×3∘1×1 F2 is fixed; then positions decouple too: m = C₊, with C₋·K1² right-hand sides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from statistics import median

import torch
from _common import Figure, figure, finish
from _memory import peak_above
from _morph_copies import copies, sites
from _morph_large import large

import morphs
from morphs.graph.arch import ArchGraph, Node
from morphs.graph.ops import Conv2d, Input, Output, Pair
from morphs.solve.factor import factor

KERNELS: tuple[Pair, ...] = ((3, 3), (1, 1))  # of F2; G and F1 are 3×3
DGEMM = 1536  # rows and columns of the matrix product that tells the rate


def floor_flops(channels: int, then: Pair) -> int:
    """The flops that the factoring of C × C filters, 3×3, with 4·C between can't do without."""
    ins = outs = channels
    between, taps = 4 * channels, then[0] * then[1]
    if taps == 1:
        gram, size, rights, back = 2 * between * outs**2, outs, 9 * ins, 2 * between * outs * 9 * ins
    else:
        size, rights = ins * (3 + then[0] - 1) * (3 + then[1] - 1), outs
        gram, back = 2 * between * (9 * ins) ** 2, 2 * outs * between * taps * ins * 9
    return gram + size**3 // 3 + 2 * size**2 * rights + back


def factoring(quick: bool) -> list[Figure]:
    """Times of factorings over their floors, and residuals."""
    torch.set_num_threads(1)
    figures: list[Figure] = []
    left = torch.randn(DGEMM, DGEMM, dtype=torch.float64)
    result = torch.empty_like(left)
    for channels, then in product((64,) if quick else (64, 128, 256), KERNELS):
        filters = torch.randn(channels, channels, 3, 3, dtype=torch.float64)
        rounds = 5 if quick or channels == 256 else 11
        rate, residual, seconds = 0.0, 0.0, list[float]()
        for seed in range(rounds + 1):
            start = time.process_time()
            torch.matmul(left, left, out=result)
            between = time.process_time()
            found = factor(filters, 4 * channels, (3, 3), then, torch.Generator().manual_seed(seed))
            seconds.append(time.process_time() - between)
            rate = max(rate, 2 * DGEMM**3 / (between - start))
            residual = max(residual, found.residual)
        del seconds[0]  # it warmed up
        floor = floor_flops(channels, then) / rate
        name = f"{channels} channels, 3×3 into 3×3∘{then[0]}×{then[1]}"
        print(
            f"{name}: n = {rounds}, dgemm {rate / 1e9:.1f} GFLOP/s, floor {floor * 1e3:.2f} ms, best "
            f"{min(seconds) * 1e3:.2f}, median {median(seconds) * 1e3:.2f}, worst {max(seconds) * 1e3:.2f} ms"
        )
        figures += [
            figure(f"{name}: best", min(seconds) / floor, "× floor", "<= 3"),
            figure(f"{name}: median", median(seconds) / floor, "× floor", "<= 3"),
            figure(f"{name}: largest residual", residual, "", "<= 1e-12"),
        ]
    return figures


def memory(quick: bool) -> list[Figure]:
    """Peak memory of the moves over the allowance, each in a fresh process."""
    figures: list[Figure] = []
    for channels, then in product((64,) if quick else (64, 128, 256), KERNELS):
        command = [sys.executable, __file__, "--peak", str(channels), str(then[0])]
        told = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        allowed = _allowance(channels, then)
        name = f"{channels} channels, 3×3 into 3×3∘{then[0]}×{then[1]}: peak memory"
        print(f"{name} {told / 2**20:.1f} MiB above the baseline, allowed {allowed / 2**20:.1f} MiB")
        figures.append(figure(name, told / allowed, "× allowance", "<= 1"))
    return figures


def _allowance(channels: int, then: Pair) -> int:
    """Bytes: 3 × the float64 weights of parent and child, one decoupled system and two Gram matrices."""
    between, taps = 4 * channels, then[0] * then[1]
    weights = 9 * channels**2 + between * channels * (9 + taps)
    size = channels * (3 + then[0] - 1) * (3 + then[1] - 1) if taps > 1 else channels
    return 8 * (3 * weights + size * between * taps + 2 * size**2)


def peak(channels: int, then: int) -> None:
    """In a process of its own: print the peak of resident memory while the move is applied, above that before."""
    torch.set_num_threads(1)
    small = _network(8)
    morphs.apply(small, _move(8, then), measure=False)  # libraries set themselves up
    net, move = _network(channels), _move(channels, then)
    print(peak_above(lambda: morphs.apply(net, move, measure=False)))


def _network(channels: int) -> morphs.Network:
    conv = Conv2d(channels, (3, 3), padding=(1, 1), bias=False)
    nodes = [Node("x", Input((channels, 8, 8))), Node("c", conv, ("x",)), Node("out", Output(), ("c",))]
    return morphs.init(ArchGraph(nodes), dtype=torch.float64)


def _move(channels: int, then: int) -> morphs.Deepen:
    return morphs.Deepen("c", "netmorph", 4 * channels, (3, 3), (then, then))


PARTS: dict[str, Callable[[bool], list[Figure]]] = {
    "copies": copies, "large": large, "sites": sites, "factoring": factoring, "memory": memory,
}  # fmt: skip


def main() -> None:
    """Run the chosen parts, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smallest case of each part only")
    parser.add_argument(
        "--part", action="append", choices=list(PARTS), help="may be given several times; all by default"
    )
    parser.add_argument("--peak", nargs=2, type=int, metavar=("CHANNELS", "KERNEL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        peak(*given.peak)
        return
    figures = [found for name in given.part or PARTS for found in PARTS[name](given.quick)]
    finish(__file__, figures)


if __name__ == "__main__":
    main()
