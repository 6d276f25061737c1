"""A residual network that grows from a small plain one, with a norm after every layer."""

from morphs import InsertBlock, WidenAll
from search_spaces.space import Shape, Space
from search_spaces.stages import three_stages


def residual(input_shape: Shape, classes: int, width: int = 16) -> Space:
    """A small convolution–norm–ReLU network that grows by residual blocks and in width, after ResNet.

    Its three stages have `width`, 2 `width` and 4 `width` channels. Source: He et al., arXiv 1512.03385.
    """
    return Space(
        three_stages(input_shape, classes, width),
        (
            (InsertBlock, {"kind": ("single", "basic"), "how": ("scaled",)}),
            (WidenAll, {"factor": (1.25,), "how": ("replicate",)}),
        ),
    )
