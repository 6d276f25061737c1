"""The space that `nas search digits` explores."""

from morphs import AddSkip, Deepen, GrowKernel, InsertNorm, Widen, parse_graph
from search_spaces.space import Shape, Space


def digits(input_shape: Shape, classes: int) -> Space:
    """Small images, the size of scikit-learn's digits: a LeNet of two convolutions, grown step by step."""
    seed = parse_graph(f"""
        x = input(size={list(input_shape)})
        c1 = conv2d(x, channels=8, kernel=3, padding=1)
        r1 = relu(c1)
        m1 = max_pool2d(r1, kernel=2)
        c2 = conv2d(m1, channels=16, kernel=3, padding=1)
        r2 = relu(c2)
        m2 = max_pool2d(r2, kernel=2)
        f = flatten(m2)
        fc = linear(f, features={classes})
        y = output(fc)
    """)
    return Space(
        seed,
        (
            (Widen, {"factor": (1.5, 2), "how": ("replicate", "zero")}),
            (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
            (Deepen, {"how": ("netmorph",), "ratio": (1, 2), "min_channels": (16,)}),
            (AddSkip, {"reach": (2,)}),
            (GrowKernel, {"max_kernel": (5,)}),
            (InsertNorm, {}),
        ),
    )
