"""The plain seed network that several spaces grow from."""

from morphs import ArchGraph, parse_graph
from search_spaces.space import Shape

RECEPTIVE_FIELD = 18  # pixels that an output of the last stage sees, in each direction


def three_stages(input_shape: Shape, classes: int, width: int) -> ArchGraph:
    """Three convolution–norm–ReLU stages of `width`, 2 `width` and 4 `width` channels, each after the first at half the
    resolution; then a global average and a linear layer.
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
        "g = adaptive_avg_pool2d(r3)",
        "f = flatten(g)",
        f"fc = linear(f, features={classes})",
        "y = output(fc)",
    ]
    return parse_graph("\n".join(lines))
