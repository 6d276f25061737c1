"""Perceptrons: from softmax regression on images, and from one hidden layer on vectors."""

from morphs import AddSkip, Deepen, InsertBlock, Widen, parse_graph
from search_spaces.space import Shape, Space


def mlp(input_shape: Shape, classes: int) -> Space:
    """Perceptrons: of images from softmax regression, as in Network Morphism §4.1; of vectors from one hidden layer."""
    if len(input_shape) == 1:
        return _of_vectors(input_shape, classes)
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


def _of_vectors(input_shape: Shape, outputs: int) -> Space:
    """A hidden layer with a norm, which grows in width, by layers with norms of their own and by residual blocks."""
    seed = parse_graph(f"""
        x = input(size={list(input_shape)})
        l1 = linear(x, features=64, bias=false)
        b1 = batch_norm(l1)
        r1 = relu(b1)
        fc = linear(r1, features={outputs})
        y = output(fc)
    """)
    return Space(
        seed,
        (
            (InsertBlock, {"kind": ("single", "basic"), "how": ("scaled",)}),
            (Deepen, {"how": ("identity",), "norm": (True,)}),
            (Widen, {"factor": (1.5, 2), "how": ("replicate",)}),
        ),
    )
