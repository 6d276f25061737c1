"""Conversion of arrays, tensors and PIL images to uint8 pixels and of targets, with a clear error on failure.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from nas.base.errors import DataError
from nas.data.picture import Reading, is_deep, pixels_of

_CHANNELS = (1, 2, 3, 4)
LONG = 4  # times as long as it has channels, at least, an array of floats is a sequence and not a grey image
MOST_TOKENS = 2**20  # whole numbers that reach further are quantities, or numbered with gaps
_LEVELS = 16  # of 256 that floats must reach to pass as scaled to [0, 1]


def to_pixels(value: Any, where: str) -> Tensor:
    """Convert images to uint8 [N, H, W, C], a contiguous copy. Raises DataError.

    value: array or tensor [N, H, W], [N, C, H, W] or [N, H, W, C] (see `channel_axis`); integers 0–255, floats 0–1
           (rounded to 1/255) or booleans. All channels are kept, alpha too.
    where: name of the array in an error.
    """
    array = _array(value, where)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(
            f"{where}: images have shape {list(array.shape)}; return a non-empty [N, C, H, W] or [N, H, W], or "
            "vectors [N, F]"
        )
    if array.ndim == 3:
        array = array[..., None]
    elif channel_axis(array.shape[1:], where) == 0:
        array = array.transpose(0, 2, 3, 1)
    return torch.from_numpy(np.array(_bytes(array, where), dtype=np.uint8, order="C", copy=True))


def channel_axis(shape: tuple[int, ...], where: str) -> int:
    """Which of the three axes of an image has the channels: 0 (channels first) or 2 (channels last).

    It is the one that is 1 to 4 long. Where several axes are, or none is, it is the one of at most half the length of
    each other, or shorter than two equal ones. Raises DataError where this doesn't say.
    """
    first, middle, last = shape
    if (first in _CHANNELS) != (last in _CHANNELS) and middle not in _CHANNELS:
        return 0 if first in _CHANNELS else 2
    ends = {0: (first, middle, last), 2: (last, middle, first)}
    likely = [axis for axis, (own, *others) in ends.items() if 2 * own <= min(others)]
    alike = [axis for axis, (own, *others) in ends.items() if own < others[0] == others[1]]
    found = set(likely or alike)
    if len(found) == 1:
        return found.pop()
    raise DataError(
        f"{where}: images of shape {list(shape)} may have their channels first or last; return one of [N, C, H, W] and "
        "[N, H, W, C] where H and W are at least twice C, or [N, H, W] for grey images"
    )


def to_values(value: Any, where: str) -> Tensor | None:
    """Convert vectors [N, F], or sequences [N, C, L] of floats with L at least 4 C, to float32, and tokens [N, T] to
    int64, a copy; None for images. Raises DataError for NaN or infinity.
    """
    array = _array(value, where)
    if array.size and _are_tokens(array):
        return _to_tokens(array, where)
    long = array.ndim == 3 and array.dtype.kind == "f" and array.shape[2] >= LONG * array.shape[1]
    if 0 in array.shape or not (array.ndim == 2 or long):
        return None
    values = torch.from_numpy(array.astype(np.float32))
    if not bool(torch.isfinite(values).all()):
        raise DataError(
            f"{where}: inputs contain NaN or infinity; fill them, or give a CSV file, whose gaps are filled"
        )
    return values


def _are_tokens(array: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether an array [N, T] holds tokens: integers of more than 8 bits. Those of 8 bits are pixels, flags, counts."""
    return array.ndim == 2 and array.dtype.kind in "iu" and array.dtype.itemsize > 1


def _to_tokens(array: np.ndarray[Any, np.dtype[Any]], where: str) -> Tensor:
    """Convert whole numbers to int64, a copy. Raises DataError for those that are no tokens."""
    low, high = int(array.min()), int(array.max())
    if low < 0:
        raise DataError(
            f"{where}: whole numbers are tokens, and {low} is below 0; number them from 0, or give floats if they are "
            "quantities"
        )
    if high >= MOST_TOKENS:
        raise DataError(
            f"{where}: whole numbers are tokens, and {high} is above {MOST_TOKENS - 1:,}; number them without gaps, or "
            "give floats if they are quantities"
        )
    return torch.from_numpy(array.astype(np.int64))


def to_targets(value: Any, count: int, where: str) -> Tensor:
    """Convert targets to int64 [count], where they are integers or booleans [count], or to float32 [count, K], where
    they are floats or a matrix; a copy. Raises DataError.
    """
    array = _array(value, where)
    if array.ndim not in (1, 2) or len(array) != count or 0 in array.shape[1:]:
        raise DataError(
            f"{where}: labels have shape {list(array.shape)} for {count} images; return shape [{count}], or "
            f"[{count}, K] for several numbers each"
        )
    if array.dtype.kind == "f" or (array.ndim == 2 and array.shape[1] > 1):
        values = torch.from_numpy(array.astype(np.float32)).reshape(count, -1)
        if not bool(torch.isfinite(values).all()):
            raise DataError(f"{where}: labels contain NaN or infinity; remove those examples")
        return values
    if count and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: label {array.max()} is not a class number; number the classes 0 … K-1")
    return torch.from_numpy(array.astype(np.int64)).reshape(count)


def item_image(value: Any, where: str, channels: int | None = None) -> Tensor:
    """Convert one PIL image, or array or tensor [C, H, W], [H, W, C] or [H, W], to uint8 [H, W, C].

    Transparent parts of a PIL image become white. channels: of the others, if known. Raises DataError.
    """
    if isinstance(value, Image):
        return torch.from_numpy(_picture(value, where))
    array = _array(value, where)
    if array.ndim == 3 and channels is not None and channels in (array.shape[0], array.shape[2]):
        array = array if array.shape[0] == channels else array.transpose(2, 0, 1)
        return torch.from_numpy(_bytes(array, where).astype(np.uint8)).permute(1, 2, 0).contiguous()
    return to_pixels(array[None], where)[0]


def _picture(image: Image, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A PIL image as it is: neither turned nor scaled. What a single image can't tell the meaning of is refused."""
    if is_deep(image) and image.mode != "F":
        raise DataError(
            f"{where}: a picture of mode {image.mode} has more than 8 bits; return an array of its values, "
            "scaled to 0–255 or as floats 0–1"
        )
    channels = 1 if image.mode in ("1", "L", "LA", "F") else 3
    try:
        found = pixels_of(image, Reading(channels, image.height, image.width))
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {' '.join(str(error).split())}; return an array of its values") from error
    alpha = np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else np.zeros(1)
    if alpha.min() != alpha.max() and found.min() == found.max():
        raise DataError(
            f"{where}: a picture's shape is in its alpha channel only, and lost on white; return it on "
            "another background"
        )
    return found


def item_target(value: Any, where: str) -> Tensor:
    """Convert the target of one item as `to_targets` does those of many: int64 [] or float32 [K]. Raises DataError."""
    array = _array(value, where)
    if array.size == 0:
        raise DataError(f"{where}: it has no label; return a number or an array of numbers")
    return to_targets(array.reshape(1, -1), 1, where)[0]


def _array(value: Any, where: str) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        array = np.asarray(value)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{where}: {type(value).__name__} is not an array ({reason}); return arrays"
        ) from error
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: {type(value).__name__} of type {array.dtype} is not numeric; return arrays of numbers"
        )
    return array


def _bytes(array: np.ndarray[Any, np.dtype[Any]], where: str) -> np.ndarray[Any, np.dtype[Any]]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array * np.uint8(255)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{where}: images contain NaN or infinity; remove or replace those values")
    low, high, top = array.min(), array.max(), 1 if array.dtype.kind == "f" else 255
    if low < 0 or high > top:
        raise DataError(
            f"{where}: {array.dtype} images range from {low:.6g} to {high:.6g}; "
            "return floats in [0, 1] or integers in [0, 255], not normalised (sequences are [N, C, L] with L >= 4 C)"
        )
    if top == 1 and low != high and (high - low) * 255 < _LEVELS < len(np.unique(array[:64])):
        raise DataError(
            f"{where}: {array.dtype} images range from {low:.6g} to {high:.6g}, a few of 256 levels; scale to [0, 1]"
        )
    return np.rint(array * 255.0) if top == 1 else array
