"""Softmax regression and what grows from it."""

from morphs import AddSkip, Deepen, Widen, parse_graph
from search_spaces.space import Shape, Space


def mlp(input_shape: Shape, classes: int) -> Space:
    """Softmax regression (one linear layer) that grows into a multilayer perceptron, as in Network Morphism §4.1."""
    seed = parse_graph(f"""
        x = input(size={list(input_shape)})
        f = flatten(x)
        fc = linear(f, features={classes})
        y = output(fc)
    """)
    return Space(
        seed,
        (
            (
                Deepen,
                {
                    "how": ("netmorph",),
                    "ratio": (4, 8),
                    "min_channels": (50,),
                    "activation": ("relu", "tanh"),
                },
            ),
            (Deepen, {"how": ("identity",), "activation": ("relu", "tanh")}),
            (Widen, {"factor": (2,), "how": ("replicate", "zero")}),
            (AddSkip, {"reach": (2,)}),
        ),
    )
