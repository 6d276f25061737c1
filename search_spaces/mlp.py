"""Perceptrons: from softmax regression on images, and from two hidden layers on vectors."""

from morphs import AddSkip, Deepen, Widen, parse_graph
from search_spaces.space import Shape, Space


def mlp(input_shape: Shape, classes: int) -> Space:
    """Perceptrons: of images from softmax regression (Network Morphism §4.1), of vectors from two hidden layers."""
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
    """Two hidden layers, which grow in width and by more layers. Norms help less than they disturb where rows are few:
    see docs/figures/few_examples.md.
    """
    seed = parse_graph(f"""
        x = input(size={list(input_shape)})
        l1 = linear(x, features=64)
        r1 = relu(l1)
        l2 = linear(r1, features=64)
        r2 = relu(l2)
        fc = linear(r2, features={outputs})
        y = output(fc)
    """)
    return Space(
        seed,
        (
            (Deepen, {"how": ("identity",), "activation": ("relu",)}),
            (Widen, {"factor": (1.5, 2), "how": ("replicate",)}),
            (AddSkip, {"reach": (2,)}),
        ),
    )
