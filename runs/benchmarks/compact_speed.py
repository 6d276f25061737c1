"""What a fit of CompNet costs beside its Gram matrix, and how much memory a layer of VGG's size takes.

Time: A_new of N = 20,000 rows and D = 576 columns and O(2)' of 64 outputs are given; one lambda; everything after that
is the fit of Algorithm 3: the products, least squares for W_new2, the Gram matrix of T, coordinate descent, dropping
neurons, and least squares on those that are left. It is compared with A^T A in the same type, the two taking turns.
Once D is 64 channels with a 3 x 3 kernel behind them, once 576 neurons. `--clock cpu` (default) counts processor
seconds, for machines that others use too.

Memory: `Compact` before a convolution that reads and writes 512 channels, 3 x 3, in a process of its own; its peak
resident size, imports and all, on 4 x 4 and on 16 x 16 maps (--quick: 256 channels).

    python runs/benchmarks/compact_speed.py [--threads N] [--rounds N] [--clock wall|cpu] [--quick]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from _common import Figure, figure, finish

import morphs
from morphs.solve.compact import Aim, Products, by_outputs, sparsest
from morphs.solve.least_squares import Moments

ROWS, COLUMNS, OUTPUTS = 20_000, 576, 64
SHARE = 0.3  # lambda, of the one that drops every neuron
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--quick", action="store_true", help="three rounds in float32, one small layer")
    parser.add_argument(
        "--layer", type=int, nargs=3, help="used by the script itself: channels, map size, rows"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.layer:
        vgg_layer(*arguments.layer)
        return
    rounds = 3 if arguments.quick else arguments.rounds
    figures: list[Figure] = []
    for dtype in (torch.float32,) if arguments.quick else (torch.float32, torch.float64):
        for neurons in (64, 576):
            figures += compare(neurons, dtype, rounds, CLOCKS[arguments.clock])
    for layer in ((256, 4, 1000),) if arguments.quick else ((512, 4, 20_000), (512, 16, 20_000)):
        call = [sys.executable, __file__, "--threads", str(arguments.threads), "--layer", *map(str, layer)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        peak, seconds, used = map(float, done.stdout.split())
        place = f"{layer[0]} channels, 3 x 3, {layer[1]} x {layer[1]} map, {used:.0f} rows"
        figures.append(figure(f"{place}: peak memory", peak, "GB", "<= 4"))
        figures.append(figure(f"{place}: processor time", seconds, "s", None))
    finish(__file__, figures)


def compare(neurons: int, dtype: torch.dtype, rounds: int, clock: Callable[[], float]) -> list[Figure]:
    """Gram matrix and whole fit in turns."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, COLUMNS // 2, generator=g, dtype=dtype)  # correlated neurons, as real ones are
    a = (hidden @ torch.randn(COLUMNS // 2, COLUMNS, generator=g, dtype=dtype)).relu()
    o = (hidden[:, :OUTPUTS] + hidden[:, OUTPUTS : 2 * OUTPUTS].abs()).contiguous()
    a.T @ a
    whole(a, o, neurons)
    grams: list[float] = []
    fits: list[float] = []
    kept = sweeps = 0
    for _ in range(rounds):
        begin = clock()
        a.T @ a
        grams.append(clock() - begin)
        begin = clock()
        kept, sweeps = whole(a, o, neurons)
        fits.append(clock() - begin)
    name = f"{neurons} neurons, {str(dtype).removeprefix('torch.')}"
    print(
        f"{name}: {kept} kept, {sweeps} sweeps, Gram {median(grams):.3f} s, fit {median(fits):.3f} s, {rounds} rounds"
    )
    ratios = sorted(fit / gram for fit, gram in zip(fits, grams, strict=True))
    return [
        figure(f"{name}: whole fit over Gram matrix, median", median(ratios), "x", "<= 1.5"),
        figure(f"{name}: whole fit over Gram matrix, worst", ratios[-1], "x", None),
        figure(f"{name}: Gram matrix, median", median(grams), "s", None),
    ]


def whole(a: torch.Tensor, o: torch.Tensor, neurons: int) -> tuple[int, int]:
    """The whole fit; the neurons kept, and the sweeps."""
    moments = Moments.of(a, o)
    products = Products(*moments.products(centred=True), neurons)
    weight = products.fit(None, 1e-6)
    problem, factor = by_outputs(products, weight)
    start = torch.where(factor > 0, 1 / factor, 0)
    kept, found = sparsest(
        problem, Aim(SHARE * problem.largest_penalty, None, None, 0.1, 1e-6), start, products
    )
    last = products.fit(kept, 1e-6)
    moments.offset(last, products.columns(kept))
    return len(kept), found.sweeps


def vgg_layer(channels: int, size: int, rows: int) -> None:
    """Fit before a convolution of VGG's widest kind; print peak GB, processor seconds, rows."""
    graph = morphs.parse_graph(f"""
        x = input(size=[{channels}, {size}, {size}])
        c = conv2d(x, channels={channels}, kernel=3, padding=1)
        y = output(c)
    """)
    net = morphs.init(graph, 0)
    places = min(32, size * size)
    g = torch.Generator().manual_seed(0)
    batches = ((torch.randn(64, channels, size, size, generator=g), torch.zeros(64)) for _ in range(10**6))
    begin = time.process_time()
    move = morphs.Compact("c", channels, keep=0.4, kernel=(3, 3), rows=rows, positions=places)
    child = morphs.apply(net, move, batches=batches, measure=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kilobytes on Linux
    print(peak, time.process_time() - begin, child.notes["rows"])


if __name__ == "__main__":
    main()
