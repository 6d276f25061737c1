"""What a folder's pictures are like, from their headers and a few of their pixels, and how they are to be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from nas.base.errors import DataError
from nas.data.picture import (
    Fit,
    Reading,
    check_size,
    is_deep,
    opened,
    orientation,
    pixels_of,
    quiet,
    values_of,
)
from nas.data.types import one_line

LOOKED_AT = 2048  # headers read to choose size and channels
DECODED = 256  # deep pictures, and transparent ones, decoded to choose their range and background
LARGEST_OWN_SIZE, COMMON_SIZE = 256, 64
_BITS = (8, 10, 12, 14, 16, 20, 24, 32)
_WIDEST = 8.0  # times as wide as high, or as high as wide


@dataclass(frozen=True)
class Asked:
    """What the user sets: size as (height, width), values (low, high) of deep pictures."""

    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Header:
    file: str
    size: tuple[int, int]  # width, height, upright
    grey: bool
    deep: bool
    floats: bool
    clear: bool
    wide: bool  # 16 bits a channel in colour, of which Pillow keeps the upper 8


@dataclass(frozen=True)
class Survey:
    """reading: for all pictures. sizes: (width, height) of the pictures looked at. bad: files, and what is wrong."""

    reading: Reading
    sizes: tuple[tuple[int, int], ...]
    bad: dict[str, str]


def survey(files: Sequence[str], asked: Asked) -> Survey:
    """Look at an even sample of the training pictures. Raises DataError for kinds that can't be read alike."""
    headers, bad = list[_Header](), dict[str, str]()
    with quiet():
        for position in map(int, np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT)).round()):
            try:
                headers.append(_header(files[position]))
            except Exception as error:
                bad[files[position]] = one_line(error)
        c = 1 if all(header.grey for header in headers) else 3
        h, w = asked.size or _common_size([header.size for header in headers])
        low, high = asked.range or _range([header for header in headers if header.deep], bad) or (None, None)
        reading = Reading(c, h, w, asked.fit, low=low, high=high)
        reading = Reading(c, h, w, asked.fit, _background(headers, reading, bad), low, high)
        _check_wide([header.file for header in headers if header.wide], reading, bad)
    return Survey(reading, tuple(header.size for header in headers), bad)


def _header(file: str) -> _Header:
    with opened(file) as image:
        w, h = image.size if orientation(image) < 5 else image.size[::-1]
        deep, mode = is_deep(image), image.mode
        tiles: Any = getattr(image, "tile", ())
        return _Header(
            file, (w, h), deep or mode in ("1", "L", "LA", "La"), deep, mode == "F",
            image.has_transparency_data, not deep and ";16" in str(tiles[:1]),
        )  # fmt: skip


def _common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(height, width): the pictures' own if all are alike and small, else about as many pixels as COMMON_SIZE², in
    their mean shape.
    """
    if not sizes:
        return COMMON_SIZE, COMMON_SIZE
    w, h = sizes[0]
    if len(set(sizes)) == 1 and max(w, h) <= LARGEST_OWN_SIZE:
        return h, w
    shape = math.exp(sum(math.log(w / h) for w, h in sizes) / len(sizes))
    shape = min(max(shape, 1 / _WIDEST), _WIDEST)
    if 1 / 1.1 < shape < 1.1:
        return COMMON_SIZE, COMMON_SIZE
    return _fours(COMMON_SIZE / math.sqrt(shape)), _fours(COMMON_SIZE * math.sqrt(shape))


def _fours(length: float) -> int:
    return 4 * round(length / 4)


def share_cut(sizes: Sequence[tuple[int, int]], reading: Reading) -> float:
    """The mean share of a picture that cropping removes."""
    wanted = reading.width / reading.height
    kept = [min(w / h / wanted, wanted / (w / h)) for w, h in sizes]
    return 1 - sum(kept) / max(1, len(kept))


# -- deep pictures -----------------------------------------------------------------------------------


def _sample(headers: Sequence[_Header]) -> list[str]:
    places = np.linspace(0, len(headers) - 1, min(len(headers), DECODED)).round()
    return [headers[int(place)].file for place in places]


def _range(deep: Sequence[_Header], bad: dict[str, str]) -> tuple[float, float] | None:
    """The values that are to become 0 and 255; None without deep pictures."""
    floats, whole = [h.file for h in deep if h.floats], [h.file for h in deep if not h.floats]
    if floats and whole:
        raise DataError(
            f"imagefolder: {floats[0]} has floats and {whole[0]} has integers above 8 bits; save all in one way, or "
            "give the values that are black and white: ?range=LOW..HIGH"
        )
    low, high = math.inf, -math.inf
    for file in _sample(deep):
        try:
            with opened(file) as image:
                check_size(image)
                values = values_of(image)
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        except Exception as error:
            bad[file] = one_line(error)
    if low > high:
        return None
    if floats:
        return (0.0, 1.0) if low >= 0 and high <= 1 else (min(0.0, low), max(high, low + 1e-6))
    top = float(next(2**bits for bits in _BITS if high < 2**bits or bits == _BITS[-1]) - 1)
    return (0.0, top) if low >= 0 else (low, max(high, low + 1))


def _check_wide(files: Sequence[str], reading: Reading, bad: dict[str, str]) -> None:
    """Raise DataError where pictures of 16 bits a channel use so few of them that the upper 8 show little."""
    if not files:
        return
    brightest = 0
    for file in files[:DECODED]:
        try:
            with opened(file) as image:
                brightest = max(brightest, int(pixels_of(image, reading).max()))
        except Exception as error:
            bad[file] = one_line(error)
    if brightest < 64 and not set(files) <= bad.keys():
        raise DataError(
            f"imagefolder: {files[0]} has 16 bits a colour, of which fewer than 14 are used, and only the upper 8 are "
            "read; convert these pictures to 8 bits"
        )


# -- transparent pictures ----------------------------------------------------------------------------


def _background(headers: Sequence[_Header], reading: Reading, bad: dict[str, str]) -> int:
    """The grey level behind transparent parts on which most pictures can be seen; white if others are no better."""
    clear = _sample([header for header in headers if header.clear and not header.deep])
    visible = dict.fromkeys((255, 0, 128), 0)
    for file in clear:
        try:
            with opened(file) as image:
                check_size(image)
                picture = image.convert("RGBA")
                picture.thumbnail((64, 64), Image.Resampling.BOX)
        except Exception as error:
            bad[file] = one_line(error)
            continue
        contrast = {level: _contrast(picture, level) for level in visible}
        for level in visible:
            visible[level] += contrast[level] > 0.25 * max(contrast.values())
    return max(visible, key=lambda level: visible[level])


def _contrast(picture: Image.Image, level: int) -> float:
    ground = Image.new("RGBA", picture.size, (level, level, level, 255))
    return float(np.asarray(Image.alpha_composite(ground, picture).convert("L"), dtype=np.float64).std())
