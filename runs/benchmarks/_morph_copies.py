"""How fast sites are listed and moves are applied.

sites: how many sites a second are listed on a ResNet-50, limits checked included. copies: moves that only copy,
against a plain memory copy of the bytes they must touch (the child's tensors that aren't the parent's), on a
layer that goes from 512 to 640 channels and at every site of a ResNet-50. Both are run in turn, so that a busy
machine slows both. One thread, in processor time, with an allocator that keeps freed memory, so that neither waits
for fresh pages. Where a move draws random numbers, drawing as many is counted with the copy.

    python runs/benchmarks/morph_speed.py --part copies --part sites [--quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import torch
import torchvision
from _common import Figure, figure
from torch import Tensor

import morphs

MENU = {
    "deepen": {
        "how": ("identity",), "kernels": ((1, 1), (3, 3), (5, 5), (7, 7)), "activation": ("relu", "tanh", "gelu"),
    },
    "widen": {"factor": (1.125, 1.25, 1.5, 2, 3, 4, 6, 8), "how": ("replicate", "zero")},
    "grow_kernel": {"by": ((2, 2), (2, 0), (0, 2), (4, 4))},
    "add_skip": {"reach": (8,)},
}  # fmt: skip
KEEP = str(2**32)  # bytes that the C library may hold on to
LAYER = """
    x = input(size=[512, 7, 7]); c = conv2d(x, channels=512, kernel=3, padding=1); r = relu(c)
    d = conv2d(r, channels=512, kernel=3, padding=1); out = output(d)
"""
ON_LAYER = {  # what becomes of the 512 channels, then what is done to 640
    "widen replicate": ("", "widen(node=c, to=640)"),
    "widen zero": ("", "widen(node=c, to=640, how=zero)"),
    "grow_kernel": ("widen(node=c, to=640)", "grow_kernel(node=c, to=[5, 5])"),
    "deepen identity": ("widen(node=c, to=640)", "deepen(node=r, kernel=[3, 3])"),
    "add_skip": ("widen(node=c, to=640)", "add_skip(source=c, target=r)"),
}
ON_RESNET = {
    "widen replicate": (morphs.Widen, {"factor": (1.25,), "how": ("replicate",)}),
    "widen zero": (morphs.Widen, {"factor": (1.25,), "how": ("zero",)}),
    "grow_kernel": (morphs.GrowKernel, {}),
    "deepen identity": (morphs.Deepen, {"how": ("identity",)}),
    "add_skip": (morphs.AddSkip, {"reach": (2,)}),
}


def sites(quick: bool) -> list[Figure]:
    """Every site of a ResNet-50, listed afresh from its JSON."""
    document = resnet().graph.to_json()
    spent = morphs.cost(morphs.graph_from_json(document))
    ample = morphs.Limits(
        params=20 * spent.params, macs=20 * spent.macs, activations=20 * spent.activations, depth=999, nodes=9999,
        width=99999,
    )  # fmt: skip
    figures: list[Figure] = []
    for limits, words in ((None, ""), (ample, ", all limits checked")):
        seconds, count = [], 0
        for _ in range(2 if quick else 10):
            graph = morphs.graph_from_json(document)
            begin = time.process_time()
            count = sum(1 for move in morphs.MOVES for _ in move.sites(graph, limits, MENU.get(move.name)))
            seconds.append(time.process_time() - begin)
        figures += [
            figure(f"sites of a ResNet-50{words}", count, "sites", ">= 2000"),
            figure(f"time to list them{words}, best", min(seconds), "s", "<= 1"),
            figure(f"time to list them{words}, median of {len(seconds)}", median(seconds), "s", None),
        ]
    return figures


def copies(quick: bool) -> list[Figure]:
    """Moves that only copy, against memory copies; in a process of its own, for its allocator."""
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != KEEP:
        keep = {"MALLOC_TRIM_THRESHOLD_": KEEP, "MALLOC_MMAP_THRESHOLD_": KEEP}
        command = [sys.executable, __file__, *(["--quick"] if quick else [])]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **keep})
        return json.loads(ran.stdout)
    torch.set_num_threads(1)
    figures: list[Figure] = []
    layer = morphs.init(morphs.parse_graph(LAYER))
    for name, (before, move) in ON_LAYER.items():
        parent = [layer, *(c.network for c in morphs.apply_chain(layer, before, measure=False))][-1]
        figures += against_copy(f"{name}, one layer", parent, [morphs.parse(move)], 5 if quick else 30)
    whole = resnet()
    for name, (kind, menu) in ON_RESNET.items():
        found = list(kind.sites(whole, None, menu))
        figures += against_copy(f"{name}, ResNet-50", whole, found[:4] if quick else found, 1 if quick else 5)
    begin = time.process_time()
    morphs.apply(layer, "widen(node=c, to=640)")
    figures.append(
        figure("widen, one layer, drift measured", 1e3 * (time.process_time() - begin), "ms", None)
    )
    if not quick:
        begin = time.process_time()
        morphs.apply(whole, "widen(node=layer3.1.conv1, to=320)")
        figures.append(figure("widen, ResNet-50, drift measured", time.process_time() - begin, "s", None))
    return figures


def against_copy(
    name: str, parent: morphs.Network, moves: Sequence[morphs.Move], repeats: int
) -> list[Figure]:
    """All `moves` on `parent`, one by one, against copies of the tensors they make."""
    spent: list[tuple[int, float, float]] = []  # bytes, seconds applied, seconds copied
    for move in moves:
        child = morphs.apply(parent, move, measure=False)
        made = {k: t for k, t in child.network.weights.items() if t is not parent.weights.get(k)}
        drawn = sum(new_rows(t, child.origin[k]) for k, t in made.items()) if "zero" in name else 0
        seconds = in_turn(
            lambda move=move: morphs.apply(parent, move, measure=False),
            lambda made=made, drawn=drawn: plain(made.values(), drawn),
            repeats,
        )
        spent.append((sum(tensor.nbytes for tensor in made.values()), *seconds))
    touched, applied, copied = (sum(column) for column in zip(*spent, strict=True))
    small = touched / len(moves) < 1e5  # less than one call from Python costs
    figures = [
        figure(f"{name}: times a memory copy", applied / copied, "", None if small else "<= 2"),
        figure(f"{name}: applied, mean of {len(moves)}", 1e3 * applied / len(moves), "ms", None),
        figure(f"{name}: bytes touched, mean", touched / len(moves) / 1e6, "MB", None),
    ]
    if len(spent) > 1 and not small:
        most = max(spent)
        figures.append(
            figure(
                f"{name}: times a memory copy, largest site ({most[0] / 1e6:.0f} MB)",
                most[1] / most[2],
                "",
                None,
            )
        )
    return figures


def new_rows(tensor: Tensor, origin: morphs.Origin) -> int:
    """How many numbers of a widened weight are fresh: those of new output units."""
    if tensor.dim() < 2 or origin.axes[0] is None:
        return 0
    return int((origin.axes[0] < 0).sum()) * tensor[0].numel()


def in_turn(one: Callable[[], object], two: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds of each, the best of so many, run alternately."""
    best = [float("inf"), float("inf")]
    for _ in range(repeats):
        for place, work in enumerate((one, two)):
            begin = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - begin)
    return best[0], best[1]


def plain(tensors: Iterable[Tensor], drawn: int) -> list[Tensor]:
    """A memory copy, and as many random numbers as are to be drawn."""
    return [*(tensor.clone() for tensor in tensors), torch.randn(drawn)]


def resnet() -> morphs.Network:
    """torchvision's ResNet-50, fresh weights."""
    return morphs.from_torch(torchvision.models.resnet50(), torch.randn(1, 3, 224, 224))


if __name__ == "__main__":
    print(json.dumps(copies("--quick" in sys.argv)))
