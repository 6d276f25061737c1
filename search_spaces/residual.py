"""A network that grows from a small plain one, with a norm after every layer: in width, and in depth by blocks."""

from collections.abc import Mapping
from typing import Any

from morphs import InsertBlock, Move, WidenAll
from search_spaces.space import Shape, Space
from search_spaces.stages import RECEPTIVE_FIELD, three_stages

WIDER: tuple[type[Move], Mapping[str, Any]] = (WidenAll, {"factor": (1.25,), "how": ("zero",)})
DEEPER: tuple[type[Move], Mapping[str, Any]] = (
    InsertBlock,
    {"kind": ("single", "basic"), "how": ("scaled",)},
)


def residual(input_shape: Shape, classes: int, width: int = 16) -> Space:
    """A small convolution–norm–ReLU network that grows as a whole in width, and by residual blocks after ResNet.

    Its three stages have `width`, 2 `width` and 4 `width` channels. Blocks are inserted only for images that are larger
    than the seed network's receptive field: depth beyond that pays less than width (Richter et al., arXiv 2106.12307).
    Source of the blocks: He et al., arXiv 1512.03385.
    """
    deeper = max(input_shape[1:]) > RECEPTIVE_FIELD
    return Space(three_stages(input_shape, classes, width), (WIDER, DEEPER) if deeper else (WIDER,))
