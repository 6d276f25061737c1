"""What a final classifier gets wrong on the test split: which class it takes for which, and its surest errors.

Legend: N examples, K classes.
"""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from nas.data import ImageSplit, SearchData
from nas.data.types import Split, StreamSplit
from nas.train.evaluate import Scores

SHOWN = 12  # errors, the surest first
MOST_CLASSES = 200
PIXELS = 96  # the longest side of a picture that is kept


def mistakes(scores: Scores, split: ImageSplit, data: SearchData) -> dict[str, Any]:
    """The mistakes as JSON values; empty if the task is not a classification.

    classes: names [K]. confusion: counts [K, K], a row for each true class, a column for each that was predicted.
    surest: for each of the surest errors its place in the split, the true class, the one predicted, the probability
    that the network gave that, and the picture (PNG, base64) where it is one.
    """
    classes = data.outputs
    if data.task.targets != "classes" or not 1 < classes <= MOST_CLASSES:
        return {}
    true, said = split.labels, scores.said
    confusion = torch.bincount(true * classes + said, minlength=classes**2).reshape(classes, classes)
    wrong = (true != said).nonzero().flatten()
    places = wrong[scores.sure[wrong].argsort(descending=True, stable=True)][:SHOWN].tolist()
    surest: list[dict[str, Any]] = []
    for place in places:
        shown = _picture(split, place)
        entry: dict[str, Any] = {
            "place": place, "true": int(true[place]), "said": int(said[place]),
            "sure": round(float(scores.sure[place]), 4),
        }  # fmt: skip
        surest.append(entry | ({"png": shown} if shown else {}))
    return {
        "classes": [str(name) for name in data.classes],
        "confusion": confusion.tolist(),
        "surest": surest,
    }


def _picture(split: ImageSplit, place: int) -> str:
    """One picture of the split as PNG in base64; empty if its examples are not grey or colour pictures."""
    pixels = _pixels(split, place)
    if pixels is None or pixels.shape[2] not in (1, 3):
        return ""
    from PIL import Image

    image = Image.fromarray(pixels.squeeze(2).contiguous().numpy())
    image.thumbnail((PIXELS, PIXELS))
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _pixels(split: ImageSplit, place: int) -> Tensor | None:
    """uint8 [H, W, C]."""
    if isinstance(split, Split):
        return split.images[place].permute(1, 2, 0)
    return split.read([place])[0] if isinstance(split, StreamSplit) else None
