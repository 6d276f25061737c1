"""Convolutional networks of sequences."""

from morphs import Deepen, GrowKernel, InsertBlock, Widen, parse_graph
from search_spaces.space import Shape, Space

KERNEL = 5


def conv1d(input_shape: Shape, outputs: int) -> Space:
    """Sequences (C, L): convolutions over time with norms, which grow by residual blocks, layers, width and reach.

    A sequence is a map one place high, (C, 1, L), so that the moves of maps are those of sequences. Three stages, or
    fewer where the sequence is short, each at half the length of the one before; then the mean over time.
    """
    channels, length = input_shape
    lines = [
        f"x = input(size=[{channels}, {length}])",
        f"m0 = reshape(x, size=[{channels}, 1, {length}])",
    ]
    stages = next(count for count in (3, 2, 1) if length >= 4 * 2**count or count == 1)
    for stage in range(1, stages + 1):
        lines += [
            f"c{stage} = conv2d(m{stage - 1}, channels={16 * 2**stage}, kernel=[1, {KERNEL}], "
            f"padding=[0, {KERNEL // 2}], bias=false)",
            f"b{stage} = batch_norm(c{stage})",
            f"r{stage} = relu(b{stage})",
        ]
        if stage < stages:
            lines.append(f"m{stage} = max_pool2d(r{stage}, kernel=[1, 2])")
    lines += [
        f"g = adaptive_avg_pool2d(r{stages})",
        "f = flatten(g)",
        f"fc = linear(f, features={outputs})",
        "y = output(fc)",
    ]
    return Space(
        parse_graph("\n".join(lines)),
        (
            (InsertBlock, {"kind": ("single", "basic"), "how": ("scaled",), "kernels": ((1, KERNEL),)}),
            (Deepen, {"how": ("identity",), "kernels": ((1, KERNEL),), "norm": (True,)}),
            (Widen, {"factor": (1.5, 2), "how": ("replicate",)}),
            (GrowKernel, {"by": ((0, 4),), "max_kernel": (17,)}),
        ),
    )
