"""Hypothesis strategies: graphs that use the whole vocabulary, and networks with weights unlike fresh ones.

`graphs()` draws an architecture, `networks()` gives it weights: batch norms with statistics of a trained net,
P-activations with a strictly between 0 and 1, biases and scales away from their neutral values.
"""

import torch
from hypothesis import strategies as st

import morphs
from morphs.testing import random_network as lively
from morphs.testing import some_batches
from morphs.testing import with_exact_zeros as ripe
from strategies.maps import BLOCKS, graphs, vector_graphs
from strategies.signals import signal_graphs
from strategies.tokens import token_graphs

__all__ = [
    "MENUS",
    "graphs",
    "image_networks",
    "lively",
    "networks",
    "ripe",
    "signal_graphs",
    "some_batches",
    "token_graphs",
    "vector_graphs",
]

MENUS = {  # small, so that every kind of choice comes up often
    "grow_kernel": {"by": ((2, 2), (2, 0), (0, 2), (2,), (4,), (2, 2, 2), (0, 2, 0))},
    "deepen": {
        "how": ("identity", "netmorph"), "activation": ("relu", "tanh"),
        "kernels": ((1, 1), (3, 3), (3, 1), (1,), (3,), (1, 1, 1), (3, 1, 3)),
        "min_channels": (1,), "groups": (None, "depthwise"), "norm": (False, False, True),
    },
    "compact": {"how": ("alg1", "alg2", "alg3", "random"), "activation": ("relu", "sigmoid"), "rows": (60,)},
    "widen": {"factor": (1.5, 2, 3), "how": ("replicate", "zero", "paired")},
    "widen_all": {"factor": (1.5, 2), "how": ("replicate", "zero", "paired")},
    "add_skip": {"how": ("add", "convex", "concat"), "project": (False, True)},
    "subnet": {"template": (
        "mlpconv", "inception", "residual", "(K:3C)(3:2C)(1x3)", "() + (1:C/2)(3) + (K:C)(1)", "(1:6C)(K:2C) + (K)",
    )},
    "insert_block": {
        "kind": ("single", "basic", "bottleneck", "inverted"), "how": ("zero", "paired", "scaled"),
        "kernels": ((3, 3), (1, 3)),
    },
    "squeeze_excite": {"min_channels": (1,), "activation": ("silu", "relu")},
    "add_block": {"part": ("attention", "mlp", "both"), "ratio": (0.5, 2), "gated": (False, True)},
}  # fmt: skip


@st.composite
def image_networks(draw, blocks=BLOCKS, most: int = 3, dtype: torch.dtype = torch.float64) -> morphs.Network:
    """A network of `graphs()` (now and then of `vector_graphs()`) with `lively` weights."""
    which = draw(st.sampled_from((0, 0, 0, 0, 1)))
    graph = draw(vector_graphs()) if which else draw(graphs(blocks, most))
    return lively(graph, draw(st.integers(0, 99)), dtype)


@st.composite
def networks(draw, blocks=BLOCKS, most: int = 3, dtype: torch.dtype = torch.float64) -> morphs.Network:
    """A network of images, vectors, tokens or signals, with `lively` weights."""
    which = draw(st.integers(0, 5))
    if which < 3:
        return draw(image_networks(blocks, most, dtype))
    graph = draw(signal_graphs() if which == 3 else token_graphs())
    return lively(graph, draw(st.integers(0, 99)), dtype)
