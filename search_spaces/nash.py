"""The space of "Simple and efficient architecture search for CNNs" (Elsken, Metzen, Hutter; arXiv 1711.04528)."""

from morphs import AddSkip, Deepen, GrowKernel, Widen
from search_spaces.space import Shape, Space
from search_spaces.stages import three_stages


def nash(input_shape: Shape, classes: int) -> Space:
    """A small convolution–norm–ReLU network that grows deeper, wider and by shortcuts, after NASH."""
    return Space(
        three_stages(input_shape, classes, 32),
        (
            (Deepen, {"how": ("identity",), "kernels": ((3, 3),)}),
            (Widen, {"factor": (1.5, 2)}),
            (AddSkip, {"reach": (2,)}),
            (GrowKernel, {"max_kernel": (5,)}),
        ),
    )
