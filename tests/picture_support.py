"""Small folders of pictures for the tests of nas.data and of exports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nas.data import SearchData, load_search_data

Save = Callable[[np.ndarray[Any, Any], Path], None]


def picture(file: Path, size: tuple[int, int] = (10, 8), seed: int = 0, **how: Any) -> Path:
    """Write a picture of random colours; size: width, height."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, **how)
    return file


def classes(top: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 5, suffix: str = ".png") -> Path:
    """Write `count` pictures for each class; the folder."""
    for label, name in enumerate(names):
        for number in range(count):
            picture(top / name / f"{number}{suffix}", seed=1000 * label + number)
    return top


def levels(top: Path, save: Save) -> Path:
    """Write pictures of two classes, of mean brightness 0.2 and 0.7; save: takes values in [0, 1] and a file."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 0.2), ("light", 0.7)):
        (top / name).mkdir(parents=True)
        for number in range(6):
            save(np.clip(level + rng.normal(0, 0.05, (16, 16)), 0, 1), top / name / str(number))
    return top


def loaded(top: Path, more: str = "", **how: Any) -> SearchData:
    """What a search sees of a folder."""
    return load_search_data(f"imagefolder:{top}{more}", None, 0, **how)


def means(data: SearchData) -> tuple[float, float]:
    """The mean grey level of the training images of classes 0 and 1."""
    pixels = data.train.read(range(len(data.train))).float()  # pyright: ignore
    return float(pixels[data.train.labels == 0].mean()), float(pixels[data.train.labels == 1].mean())


def notes(data: SearchData) -> str:
    """All that the user is told."""
    return "\n".join(data.notes)
