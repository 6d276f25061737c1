"""Tokens: examples of whole numbers [N, T], each below the size of their vocabulary, K. They are looked up, not scaled.

Legend: N examples, T tokens of one, K tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from nas.base.errors import DataError
from nas.data.convert import MOST_TOKENS
from nas.data.types import ImageSplit, ValueSplit


def holds_tokens(split: ImageSplit) -> bool:
    """Whether the examples are tokens."""
    return isinstance(split, ValueSplit) and split.inputs.dtype == torch.int64


def vocabulary(parts: Mapping[str, ImageSplit], given: object, where: str) -> int | None:
    """How many tokens there are: `given`, or one more than the largest of all parts; None where these hold none.

    parts: by their role. given: as a file says it. Raises DataError where parts are unlike, or `given` does not fit.
    """
    found = {role: split for role, split in parts.items() if holds_tokens(split)}
    unlike = next((role for role in parts if role not in found), None)
    if found and unlike is not None:
        raise DataError(
            f"{where}: {unlike} has other than whole numbers, and {next(iter(found))} tokens; give one kind"
        )
    if not found:
        if given is None:
            return None
        raise DataError(
            f"{where}: tokens are given, and the examples are not whole numbers [N, T]; omit them"
        )
    role, largest = max(((role, _largest(split)) for role, split in found.items()), key=lambda pair: pair[1])
    if given is None:
        return largest + 1
    asked = _number(given)
    if asked is None or not largest < asked <= MOST_TOKENS:
        raise DataError(
            f"{where}: {role} has the token {largest}, and tokens is {asked if asked is not None else given!r:.40}; "
            f"give a whole number from {largest + 1} to {MOST_TOKENS:,}, or omit it"
        )
    return asked


def _largest(split: ImageSplit) -> int:
    assert isinstance(split, ValueSplit)
    return int(split.inputs.max())


def _number(given: object) -> int | None:
    """A whole number, in an array of one too."""
    array = np.asarray(given)
    return int(array.reshape(())) if array.size == 1 and array.dtype.kind in "iu" else None
