"""The space of "Simple and efficient architecture search for CNNs" (Elsken, Metzen, Hutter; arXiv 1711.04528)."""

from morphs import AddSkip, Deepen, GrowKernel, Widen, parse_graph
from search_spaces.space import Shape, Space


def nash(input_shape: Shape, classes: int) -> Space:
    """A small convolution–norm–ReLU network that grows deeper, wider and by shortcuts, after NASH."""
    lines = [f"x = input(size={list(input_shape)})"]
    read, width = "x", 32
    for stage in (1, 2, 3):
        lines += [
            f"c{stage} = conv2d({read}, channels={width}, kernel=3, padding=1, bias=false)",
            f"b{stage} = batch_norm(c{stage})",
            f"r{stage} = relu(b{stage})",
        ]
        read, width = f"r{stage}", width * 2
        if stage < 3:
            lines.append(f"m{stage} = max_pool2d(r{stage}, kernel=2)")
            read = f"m{stage}"
    lines += [
        "g = adaptive_avg_pool2d(r3)",
        "f = flatten(g)",
        f"fc = linear(f, features={classes})",
        "y = output(fc)",
    ]
    return Space(
        parse_graph("\n".join(lines)),
        (
            (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
            (Widen, {"factor": (1.5, 2)}),
            (AddSkip, {"reach": (2,)}),
            (GrowKernel, {"max_kernel": (5,)}),
        ),
    )
