"""The memory of a training step as `morphs.training_memory` predicts it, against what torch allocates for one.

For the seed network of each space, and what it has grown to after some moves: the prediction over the measured peak of
the tensors in one step with momentum, in float32. On a processor the peak is that of the profiler's events, on a GPU
that of CUDA's allocator, cuDNN's workspace included.

    python runs/benchmarks/training_memory.py [--batch N] [--moves N] [--device cpu|cuda] [--quick]
"""

from __future__ import annotations

import argparse
import random
from contextlib import suppress

import torch
from _common import Figure, figure, finish, guarded

import morphs
from morphs.errors import NeedsData
from morphs.training_memory import measured_training_memory
from nas.base.errors import UserError
from search_spaces import SPACES, Space

SHAPES = {"conv1d": (1, 128), "digits": (1, 8, 8), "lenet": (1, 28, 28), "mlp": (1, 28, 28)}
TOKENS = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--moves", type=int, default=5, help="of the space, drawn at random, that a network grows by"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="two spaces")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("this machine has no GPU; use --device cpu")
    figures: list[Figure] = []
    for name in ("digits", "mlp") if given.quick else sorted(SPACES):
        space = space_of(name)
        for title, network in (("seed", morphs.init(space.seed)), ("grown", grown(space, given.moves))):
            predicted = morphs.training_memory(network.graph, given.batch)
            taken = measured_training_memory(network, given.batch, given.device)
            ratio, size = predicted / taken, f"{taken / 2**20:,.1f} MiB taken"
            figures.append(figure(f"{name}, {title}, {size}: predicted over taken", ratio, "", None))
    furthest = max(abs(each["value"] - 1) for each in figures)
    finish(__file__, [*figures, figure("the furthest from 1", furthest, "", "<= 0.25")])


def space_of(name: str) -> Space:
    """A space for ten classes of what it is made for."""
    return (
        SPACES[name]((64,), 10, TOKENS)
        if name == "transformer"
        else SPACES[name](SHAPES.get(name, (3, 32, 32)), 10)
    )


def grown(space: Space, moves: int) -> morphs.Network:
    """The seed network after so many moves of its space, drawn by a constant seed."""
    network, draws = morphs.init(space.seed), random.Random(0)
    while moves:
        kind, choices = draws.choice(space.moves)
        sites = list(kind.sites(network.graph, space.limits, choices))
        with suppress(NeedsData):  # of some moves, which another one stands in for
            network = morphs.apply(network, draws.choice(sites), seed=0).network if sites else network
            moves -= bool(sites)
    return network


if __name__ == "__main__":
    guarded(main)
