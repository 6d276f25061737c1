"""The space that suits the shape of the data."""

from search_spaces.conv1d import conv1d
from search_spaces.mlp import mlp
from search_spaces.residual import residual
from search_spaces.space import Shape, Space, SpaceFunction
from search_spaces.transformer import transformer

LEAST = 4  # pixels a side from which an image can be halved twice


def choice(input_shape: Shape, tokens: int | None = None) -> SpaceFunction:
    """The space for inputs of that shape: mlp for vectors, conv1d for sequences, residual for images, and transformer
    for tokens.
    """
    if tokens is not None:
        return transformer
    match input_shape:
        case (_, _):
            return conv1d
        case (_, height, width) if min(height, width) >= LEAST:
            return residual
        case _:
            return mlp


def auto(input_shape: Shape, outputs: int, tokens: int | None = None) -> Space:
    """The space that suits the data: mlp for vectors, conv1d for sequences, transformer for tokens, else residual."""
    if tokens is not None:
        return transformer(input_shape, outputs, tokens)
    return choice(input_shape)(input_shape, outputs)
