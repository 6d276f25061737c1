"""How a picture becomes the input of a network. Training and every export use this file; an export has a copy of it.

It needs numpy and Pillow and nothing of this project. Legend: C channels, H height, W width.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from os import PathLike
from typing import Any, Literal

import numpy as np
from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
MOST_PIXELS = 64 * 10**6  # decoded at once: about 0.6 GB of memory
# In the order tried. Others are left out on purpose: EPS, for one, would start another program.
FORMATS = (
    "PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "TGA", "AVIF",
)  # fmt: skip
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Reading:
    """What is done to each picture.

    channels: 1 (grey) or 3 (colour). height, width: in pixels.
    fit: how another size is brought to height x width: "crop" scales until both sides are covered and cuts the rest at
    the centre; "pad" scales until the whole picture fits and fills up with black; "stretch" scales each side by itself.
    background: the grey level, 0 to 255, that transparent parts get.
    low, high: values of pictures with more than 8 bits that become 0 and 255, others are clipped; None: 0 and 65535 for
    integers, 0 and 1 for floats, and other values are refused.
    """

    channels: int
    height: int
    width: int
    fit: Fit = "crop"
    background: int = 255
    low: float | None = None
    high: float | None = None


def describe(reading: Reading) -> str:
    """What `reading` does to a picture, in one sentence without its full stop."""
    h, w = reading.height, reading.width
    size = {
        "crop": f"scaled to cover {h} × {w} (height × width) and cut at the centre",
        "pad": f"scaled to fit into {h} × {w} (height × width) and filled up with black",
        "stretch": f"stretched to {h} × {w} (height × width)",
    }[reading.fit]
    colour = "made grey" if reading.channels == 1 else "made RGB"
    low, high = (reading.low, reading.high) if reading.low is not None else (0, 65535)
    deep = f"16-bit, 32-bit and float values {low:.6g} to {high:.6g} become 0 to 255"
    if reading.low is None:
        deep += " (floats: 0 to 1)"
    ground = {0: "black", 255: "white"}.get(reading.background, f"grey {reading.background}")
    return (
        f"turned upright as its EXIF data say; {size}, bilinear; transparent parts become {ground}; {colour}; {deep}; "
        "of an animation, the first frame"
    )


def read_picture(file: str | PathLike[str], reading: Reading) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read a picture file as uint8 [H, W, C]. Raises OSError or ValueError, whose text says what is wrong with it."""
    with quiet(), opened(file) as image:
        return pixels_of(image, reading, orientation(image))


def quiet() -> warnings.catch_warnings[None]:
    """Pillow's warnings ignored inside the block: its limit of size is not ours, and damaged metadata do no harm."""
    return warnings.catch_warnings(action="ignore")


def opened(file: str | PathLike[str]) -> Image.Image:
    """The picture in a file, of which only the header is read. Raises OSError or ValueError."""
    try:
        return Image.open(file, formats=_formats())
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(str(error).partition("(")[2].partition(" ")[0])) from None
    except Image.UnidentifiedImageError:
        raise ValueError("it is not a picture of a known format") from None


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def orientation(image: Image.Image) -> int:
    """How the picture is to be turned: EXIF's number, 1 to 8; 1 is upright."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return (
            1  # Pillow has turned a TIFF; it would decode a whole PNG to look for EXIF data behind the pixels
        )
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata raise errors of many kinds
        return 1
    return found if found in _TURNS else 1


def check_size(image: Image.Image) -> None:
    """Raise ValueError for a picture of more than MOST_PIXELS, which would take too much memory to decode."""
    if image.size[0] * image.size[1] > MOST_PIXELS:
        raise ValueError(_too_large(image.size[0] * image.size[1]))


def is_deep(image: Image.Image) -> bool:
    """Whether its values may be beyond 0 to 255: 16-bit or 32-bit integers, or floats."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def values_of(image: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The values of a deep picture, float32 [H, W]. Raises ValueError for NaN or infinity."""
    values = np.asarray(image, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it contains NaN or infinity")
    return values


def pixels_of(image: Image.Image, reading: Reading, turn: int = 1) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An open picture as uint8 [H, W, C]. turn: EXIF's orientation. Raises OSError or ValueError."""
    size = (reading.width, reading.height) if turn < 5 else (reading.height, reading.width)
    mode = "L" if reading.channels == 1 else "RGB"
    image.draft(mode, (2 * size[0], 2 * size[1]))  # a JPEG need not be decoded in full
    check_size(image)
    if is_deep(image):
        image = _eight_bits(_resized(_floats(image, reading), size, reading.fit), reading)
        image = image.convert(mode)
    elif image.has_transparency_data:
        clear = _resized(image.convert("RGBA"), size, reading.fit)  # Pillow weights colours by alpha
        level = reading.background
        image = Image.alpha_composite(Image.new("RGBA", clear.size, (level, level, level, 255)), clear)
        image = image.convert("RGB").convert(mode)
    else:
        image = _resized(image if image.mode == mode else image.convert(mode), size, reading.fit)
    if turn in _TURNS:
        image = image.transpose(_TURNS[turn])
    pixels = np.array(image, dtype=np.uint8).reshape(image.height, image.width, reading.channels)
    return _padded(pixels, reading)


def _resized(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """The image, scaled. With "pad", one side may be shorter than in `size` (width, height)."""
    w, h = image.size
    box = (0.0, 0.0, float(w), float(h))
    if fit == "crop":
        scale = max(size[0] / w, size[1] / h)
        wide, high = min(w, size[0] / scale), min(h, size[1] / scale)
        box = ((w - wide) / 2, (h - high) / 2, (w + wide) / 2, (h + high) / 2)
    elif fit == "pad":
        scale = min(size[0] / w, size[1] / h)
        size = max(1, round(w * scale)), max(1, round(h * scale))
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.BILINEAR, box)


def _padded(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], reading: Reading
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    h, w, c = pixels.shape
    if (h, w) == (reading.height, reading.width):
        return pixels
    whole = np.zeros((reading.height, reading.width, c), dtype=np.uint8)
    top, left = (reading.height - h) // 2, (reading.width - w) // 2
    whole[top : top + h, left : left + w] = pixels
    return whole


def _floats(image: Image.Image, reading: Reading) -> Image.Image:
    """A deep picture with its values as they are, in Pillow's mode F."""
    values = values_of(image)
    low, high = float(values.min()), float(values.max())
    if reading.low is None and (low < 0 or high > _top(image.mode)):
        known = f"0 to {_top(image.mode):g}"
        raise ValueError(
            f"its values range from {low:.6g} to {high:.6g}, and only {known} have a known meaning"
        )
    if reading.low is None:
        values = values / _top(image.mode)
    return Image.fromarray(values)


def _top(mode: str) -> float:
    return 1.0 if mode == "F" else 65535.0


def _eight_bits(image: Image.Image, reading: Reading) -> Image.Image:
    low, high = (0.0, 1.0) if reading.low is None or reading.high is None else (reading.low, reading.high)
    values = np.asarray(image, dtype=np.float64)
    scaled = (values - low) * (255 / (high - low))
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))


def _too_large(pixels: object) -> str:
    return f"it has {pixels} pixels, and at most {MOST_PIXELS} are decoded at once; make it smaller"
