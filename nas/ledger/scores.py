"""The names of scores: which direction is better, and how a value is written.

A criterion is a score's name with its direction, as text: "max f1", "min rmse". Two are older and shorter: "accuracy"
is "max accuracy", and "loss" is "min loss".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import StringConstraints

from nas.base.text import percent

Criterion = Annotated[
    str, StringConstraints(pattern=r"^(accuracy|loss|(max|min) [A-Za-z_][A-Za-z0-9_]{0,40})$")
]
SIMPLE, LINEAR = "simple", "linear"  # the names of baselines
FRACTIONS = frozenset({"accuracy", "balanced_accuracy", "exact_match", "f1"})  # are written in percent


def criterion(name: str, lower: bool) -> str:
    """The criterion of a score. lower: whether a lower value is better."""
    if (name, lower) in (("accuracy", False), ("loss", True)):
        return name
    return f"{'min' if lower else 'max'} {name}"


def name_of(which: str) -> str:
    """The name of a criterion's score."""
    return which.rpartition(" ")[2]


def is_lower_better(which: str) -> bool:
    """Whether a lower value of the criterion is better."""
    return which == "loss" or which.startswith("min ")


def merit(which: str, value: float) -> float:
    """`value`, negated where a lower one is better: what a search maximises."""
    return -value if is_lower_better(which) else value


def chosen(scores: Mapping[str, float], select: str, main: str) -> tuple[str, float]:
    """The criterion `select` and its validation score; of trials that lack it, those of the criterion `main`."""
    which = select if f"val_{name_of(select)}" in scores else main
    return which, scores[f"val_{name_of(which)}"]


def called(which: str) -> str:
    """The score in words, as in "validation balanced accuracy"."""
    return name_of(which).replace("_", " ")


def value_text(which: str, value: float | None, digits: int = 2) -> str:
    """A value of the score: a fraction in percent, any other number with four digits; "–" if there is none."""
    if value is None or is_fraction(which):
        return percent(value, digits)
    return f"{value:.4g}"


def is_fraction(which: str) -> bool:
    """Whether values of the score are shares, written in percent."""
    return name_of(which) in FRACTIONS


def scale_of(which: str) -> float:
    """What a value is multiplied by where it is drawn: 100 for fractions."""
    return 100.0 if is_fraction(which) else 1.0


def axis_title(which: str) -> str:
    """The title of an axis with validation scores."""
    return f"validation {called(which)}{' (%)' if is_fraction(which) else ''}"


def change_text(which: str, change: float | None) -> str:
    """A difference of two values, with its sign; of fractions in percentage points."""
    if change is None:
        return "–"
    return f"{100 * change:+.2f}" if is_fraction(which) else f"{change:+.4g}"


def labelled(which: str, value: float | None) -> str:
    """A value as the lines of a search show it: "91.00 %", "rmse 2.31"; accuracy needs no name."""
    text = value_text(which, value)
    return text if which == "accuracy" else f"{called(which)} {text}"
