"""A residual network that grows from a small plain one, with a norm after every layer."""

from morphs import InsertBlock, Widen, parse_graph
from search_spaces.space import Shape, Space


def residual(input_shape: Shape, classes: int, width: int = 16) -> Space:
    """A small convolution–norm–ReLU network that grows by residual blocks and in width, after ResNet.

    Its three stages have `width`, 2 `width` and 4 `width` channels. Source: He et al., arXiv 1512.03385.
    """
    lines = [f"x = input(size={list(input_shape)})"]
    read = "x"
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
        f"g = adaptive_avg_pool2d({read})",
        "f = flatten(g)",
        f"fc = linear(f, features={classes})",
        "y = output(fc)",
    ]
    return Space(
        parse_graph("\n".join(lines)),
        (
            (InsertBlock, {"kind": ("single", "basic"), "how": ("scaled",)}),
            (Widen, {"factor": (1.5, 2), "how": ("replicate",)}),
        ),
    )
