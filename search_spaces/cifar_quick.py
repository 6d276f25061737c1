"""Caffe's cifar10_quick, the parent of the Network Morphism paper's CIFAR-10 experiments."""

from morphs import AddSkip, Deepen, InsertNorm, Widen, parse_graph
from search_spaces.space import Shape, Space


def cifar_quick(input_shape: Shape, classes: int) -> Space:
    """Caffe's cifar10_quick ((5:32)(5:32)(5:64), two linear layers), grown as in the paper's Table 1."""
    seed = parse_graph(f"""
        x = input(size={list(input_shape)})
        c1 = conv2d(x, channels=32, kernel=5, padding=2)
        p1 = max_pool2d(c1, kernel=3, stride=2, ceil_mode=true)
        r1 = relu(p1)
        c2 = conv2d(r1, channels=32, kernel=5, padding=2)
        r2 = relu(c2)
        p2 = avg_pool2d(r2, kernel=3, stride=2, ceil_mode=true)
        c3 = conv2d(p2, channels=64, kernel=5, padding=2)
        r3 = relu(c3)
        p3 = avg_pool2d(r3, kernel=3, stride=2, ceil_mode=true)
        f = flatten(p3)
        fc1 = linear(f, features=64)
        fc2 = linear(fc1, features={classes})
        y = output(fc2)
    """)
    return Space(
        seed,
        (
            (Deepen, {"how": ("netmorph",), "factors": (((5, 5), (1, 1)),), "ratio": (2, 4)}),
            (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
            (Widen, {"factor": (1.5, 2)}),
            (AddSkip, {"reach": (2,)}),
            (InsertNorm, {}),
        ),
    )
