"""How a row of a CSV file becomes the input of a network. Training and every export use this file.

An export has a copy of it. It needs Python alone, and nothing of this project.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})  # in lower case, without spaces around
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Column:
    """A column that a network reads, with numbers fitted to the training rows.

    mean, std: of a number, which becomes (number − mean) / std, and 0 where it is missing. categories: texts, each of
    which becomes a 1 in a place of its own; any other text, or none, is all zeros; None: the column has numbers.
    gaps: whether one more place is 1 where the value is missing.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] | None = None
    gaps: bool = False

    @property
    def places(self) -> int:
        """How many numbers of the input it becomes."""
        return (1 if self.categories is None else len(self.categories)) + self.gaps

    @property
    def text(self) -> str:
        """What is done to it, in words."""
        if self.categories is None:
            done = f"number, (value − {self.mean:.6g}) / {self.std:.6g}, a missing one 0"
        else:
            known = ", ".join([*self.categories[:8], *(["…"] if len(self.categories) > 8 else [])])
            done = f"category, a 1 for one of {len(self.categories)} ({known}), zeros for any other"
        return f"{self.name}: {done}{', and a 1 where it is missing' if self.gaps else ''}"


def is_missing(text: str) -> bool:
    """Whether a cell has no value."""
    return text.strip().lower() in MISSING


def number_of(text: str) -> float | None:
    """The number in a cell; None if it is not a finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_csv(file: str | PathLike[str]) -> tuple[list[str], list[list[str]]]:
    """The names in the first line of a CSV file, and its rows, as text without spaces around.

    It is UTF-8; the delimiter is the one of DELIMITERS that its first line has most often. Empty lines are passed over.
    Raises OSError, or ValueError with what is wrong and where.
    """
    with open(file, newline="", encoding="utf-8-sig") as opened:
        first = opened.readline()
        opened.seek(0)
        delimiter = max(DELIMITERS, key=first.count)
        try:
            lines = [
                (number, [cell.strip() for cell in line])
                for number, line in enumerate(csv.reader(opened, delimiter=delimiter), 1)
                if any(cell.strip() for cell in line)
            ]
        except csv.Error as error:
            raise ValueError(f"it is not CSV ({error})") from None
    if len(lines) < 2:
        raise ValueError("it has no row below the line with the names of the columns")
    names = lines[0][1]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f'two columns are called "{twice}"; the first line must name each column once')
    for number, cells in lines:
        if len(cells) != len(names):
            raise ValueError(f"line {number} has {len(cells)} cells, the first line {len(names)}")
    return names, [cells for _, cells in lines[1:]]


def encode(
    names: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[Column]
) -> list[list[float]]:
    """Rows of a file with the columns `names` as inputs of a network; other columns are not read.

    Raises ValueError for a column that is not there, and for a text that should be a number.
    """
    for column in columns:
        if column.name not in names:
            raise ValueError(f'there is no column "{column.name}"; its columns are {", ".join(names)}')
    where = [names.index(column.name) for column in columns]
    return [
        [
            value
            for column, at in zip(columns, where, strict=True)
            for value in _places(column, row[at], number)
        ]
        for number, row in enumerate(rows, 1)
    ]


def _places(column: Column, text: str, row: int) -> list[float]:
    missing = is_missing(text)
    gap = [float(missing)] if column.gaps else []
    if column.categories is not None:
        return [*(float(text == known) for known in column.categories), *gap]
    value = column.mean if missing else number_of(text)
    if value is None:
        raise ValueError(f'row {row}: "{text[:60]}" in the column "{column.name}" is not a number')
    return [(value - column.mean) / column.std, *gap]
