"""LeNet on small grey images, grown by layers fitted to data."""

from morphs import Compact, Deepen, Widen, parse_graph
from search_spaces.space import Shape, Space


def lenet(input_shape: Shape, classes: int) -> Space:
    """A small LeNet-4 that gains compact layers (CompNet), identity layers and width."""
    seed = parse_graph(f"""
        x = input(size={list(input_shape)})
        c1 = conv2d(x, channels=8, kernel=5, padding=2)
        r1 = relu(c1)
        m1 = max_pool2d(r1, kernel=2)
        c2 = conv2d(m1, channels=16, kernel=3, padding=1)
        r2 = relu(c2)
        m2 = max_pool2d(r2, kernel=2)
        f = flatten(m2)
        fc1 = linear(f, features=64)
        r3 = relu(fc1)
        fc2 = linear(r3, features={classes})
        y = output(fc2)
    """)
    compact = {"how": ("alg1", "alg3"), "ratio": (2,), "keep": (0.45,), "rows": (4096,)}
    return Space(
        seed,
        (
            (Compact, compact),
            (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
            (Widen, {"factor": (1.5, 2), "how": ("replicate", "zero")}),
        ),
    )
