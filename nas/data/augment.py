"""Augmentation: what a data set declares as its default, and what the user asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nas.base.errors import UserError
from nas.base.text import plural


@dataclass(frozen=True)
class Augment:
    """Training-time augmentation of whole batches.

    flip: mirror each image left to right with probability 1/2.
    crop: shift each image by up to this many pixels both ways, borders filled by reflection; 0 = none.
    """

    flip: bool
    crop: int


NONE = Augment(flip=False, crop=0)
_WHOLE = r"none|flip|(?:flip, ?)?crop=(\d{1,4})"
_FLIPS = {"true": True, "false": False}


def augment_of(text: str | None, default: Augment) -> Augment:
    """What `--augment` asks for.

    "flips=true,shifts=4" changes `default`: what it doesn't name stays. "none", "flip", "crop=4" and "flip,crop=4" are
    the whole: what they don't name is off. Raises UserError.
    """
    if text is None:
        return default
    if whole := re.fullmatch(_WHOLE, text.strip()):
        return Augment(flip="flip" in whole[0], crop=int(whole[1] or 0))
    found = default
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name == "flips" and value in _FLIPS:
            found = replace(found, flip=_FLIPS[value])
        elif name == "shifts" and re.fullmatch(r"\d{1,4}", value):
            found = replace(found, crop=int(value))
        else:
            raise UserError(
                f'augment: "{part.strip()}" is not known; write none, flips=true, flips=false, shifts=PIXELS, two of '
                "them with a comma between, flip, crop=PIXELS or flip,crop=PIXELS"
            )
    return found


def described(augment: Augment, text: str | None) -> str:
    """What happens to training images, and whether the user or the data set decided it."""
    done = ["mirrored left to right half the time"] if augment.flip else []
    done += [f"shifted by up to {plural(augment.crop, 'pixel')}"] if augment.crop else []
    if not done:
        more = "" if text is not None else "; --augment flips=true,shifts=N turns on what suits the images"
        return f"training images are neither mirrored nor shifted{more}"
    source = "; --augment none turns it off" if text is None else ""
    return f"training images are {' and '.join(done)}{source}"
