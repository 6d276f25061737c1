"""Conversion of arrays, tensors and PIL images to uint8 pixels and int64 labels, with a clear error on failure.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from nas.base.errors import DataError

_CHANNELS = (1, 2, 3, 4)


def to_pixels(value: Any, where: str) -> Tensor:
    """Convert images to uint8 [N, H, W, C], a contiguous copy. Raises DataError.

    value: array or tensor [N, H, W], [N, C, H, W] or [N, H, W, C] (the last only if no other axis but the last
           can be the channel axis: 1 to 4 long); integers 0–255, floats 0–1 (rounded to 1/255) or booleans.
    where: name of the array in an error.
    """
    array = _array(value, where)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(
            f"{where}: images have shape {list(array.shape)}; return a non-empty [N, C, H, W] or [N, H, W]"
        )
    if array.ndim == 3:
        array = array[..., None]
    elif array.shape[1] in _CHANNELS or array.shape[3] not in _CHANNELS:
        array = array.transpose(0, 2, 3, 1)
    return torch.from_numpy(np.array(_bytes(array, where), dtype=np.uint8, order="C", copy=True))


def to_labels(value: Any, count: int, where: str) -> Tensor:
    """Convert labels to int64 [count], a copy. Raises DataError unless they are non-negative integers."""
    array = _array(value, where)
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: labels have type {array.dtype}; return integers 0 … K-1, one per image")
    if array.shape != (count,):
        raise DataError(
            f"{where}: labels have shape {list(array.shape)} for {count} images; return shape [{count}]"
        )
    if count and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max):
        raise DataError(f"{where}: label {array.min()} is not a class number; number the classes 0 … K-1")
    return torch.from_numpy(array.astype(np.int64))


def item_image(value: Any, where: str) -> Tensor:
    """Convert one PIL image, or array or tensor [C, H, W], [H, W, C] or [H, W], to uint8 [H, W, C]."""
    if isinstance(value, Image):
        picture = _array(value if value.mode in ("L", "RGB") else value.convert("RGB"), where)
        value = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return to_pixels(_array(value, where)[None], where)[0]


def item_label(value: Any, where: str) -> int:
    """Convert one label to an integer >= 0. Raises DataError."""
    array = _array(value, where)
    if array.dtype.kind not in "iu" or array.size != 1 or int(array.reshape(())) < 0:
        raise DataError(f"{where}: label {value!r:.60} is not a class number; number the classes 0 … K-1")
    return int(array.reshape(()))


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
            "return floats in [0, 1] or integers in [0, 255], not normalised"
        )
    return np.rint(array * 255.0) if top == 1 else array
