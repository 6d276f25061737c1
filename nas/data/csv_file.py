"""`csv:FILE?target=NAME`: rows with a target column, and the fit of their columns to the training rows."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nas.base.errors import DataError
from nas.base.text import plural
from nas.data.table import Column, encode, is_missing, number_of, read_csv
from nas.data.task import as_asked
from nas.data.types import ValueSplit, one_line

MOST_CLASSES = 30  # different whole numbers that are taken for classes
MOST_CATEGORIES = 64  # of a column; rarer ones are all zeros
Cells = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a file, not encoded yet. labels: their targets. names: of the columns that a network may read."""

    names: tuple[str, ...]
    cells: Cells
    labels: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a row before it is encoded."""
        return (len(self.names),)

    def __len__(self) -> int:
        return len(self.cells)

    def subset(self, indices: Tensor) -> Rows:
        """The rows at `indices`."""
        return replace(
            self, cells=tuple(self.cells[i] for i in indices.tolist()), labels=self.labels[indices]
        )


@dataclass(frozen=True, eq=False)
class Opened:
    """A file's rows, the names of the outputs, and what the user should know."""

    rows: Rows
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def open_csv(argument: str, task: str | None) -> Opened:
    """The rows of FILE?target=NAME, or target=A,B for several; &drop=A,B leaves columns out. Raises DataError."""
    path, targets, dropped = _parsed(argument)
    try:
        names, rows = read_csv(os.path.expanduser(path))
    except (OSError, ValueError) as error:
        raise DataError(f"csv: {path} can't be read ({one_line(error)}); fix the file") from None
    for name in (*targets, *dropped):
        if name not in names:
            raise DataError(f'csv: {path} has no column "{name}"; its columns are {", ".join(names)}')
    at = [names.index(name) for name in targets]
    whole = [row for row in rows if not any(is_missing(row[place]) for place in at)]
    notes = [f"{plural(len(rows) - len(whole), 'row')} without a target are left out"] * (
        len(whole) < len(rows)
    )
    if not whole:
        raise DataError(f'csv: no row of {path} has a value in "{targets[0]}"; name another target')
    labels, classes, said = _targets([[row[place] for place in at] for row in whole], targets, task, path)
    kept = [name for name in names if name not in targets and name not in dropped]
    kept, unlike = _without_names(kept, names, whole)
    if not kept:
        raise DataError(f"csv: {path} has no column besides the target that could be learned from; add one")
    notes += [f'the column "{name}" is left out: each row has another text' for name in unlike]
    places = [names.index(name) for name in kept]
    cells = tuple(tuple(row[place] for place in places) for row in whole)
    return Opened(Rows(tuple(kept), cells, labels), classes, (*said, *notes))


def _parsed(argument: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    path, _, query = argument.partition("?")
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if name not in ("target", "drop") or not equals or not value:
            raise DataError(
                f'csv: "{part}" is not known; write csv:FILE?target=NAME, and &drop=A,B if you like'
            )
        found[name] = tuple(text.strip() for text in value.split(","))
    if "target" not in found:
        raise DataError(f"csv: {path}: name the column to predict: csv:{path}?target=NAME")
    return path, found["target"], found.get("drop", ())


def _without_names(
    kept: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[str]]:
    """The columns that may be learned from, and those of texts that are all different, such as names."""
    unlike: list[str] = []
    for name in kept:
        values = [row[names.index(name)] for row in rows]
        texts = [value for value in values if not is_missing(value) and number_of(value) is None]
        if len(texts) > 20 and len(set(texts)) == len(texts) and len(texts) > len(values) // 2:
            unlike.append(name)
    return [name for name in kept if name not in unlike], unlike


def _targets(
    cells: Sequence[Sequence[str]], names: tuple[str, ...], task: str | None, path: str
) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
    """The targets, the names of the outputs, and a note where the kind of the targets is a guess."""
    first = names[0]
    numbers = [[number_of(text) for text in row] for row in cells]
    bad = next((row for row, values in zip(cells, numbers, strict=True) if None in values), None)
    if len(names) > 1:
        if bad is not None:
            raise DataError(
                f"csv: {path}: several targets must be numbers, and a row has {', '.join(bad)}; fix it"
            )
        return as_asked(torch.tensor(numbers, dtype=torch.float32), task, f"csv: {path}"), names, ()
    texts = [row[0] for row in cells]
    if bad is not None and task in ("regression", "multi-label"):
        raise DataError(
            f'csv: {path}: "{bad[0]}" in "{first}" is not a number, as --task {task} needs; fix it'
        )
    values = [value for (value,) in numbers if value is not None]
    different, whole = len(set(texts)), bad is None and all(value == round(value) for value in values)
    few = different <= MOST_CLASSES and len(texts) >= 2 * different
    if task in ("classification", "balanced") or bad is not None or (whole and few and task != "regression"):
        key = (lambda text: (float(text), text)) if bad is None else None
        classes = sorted(set(texts), key=key)
        if len(classes) > max(2, len(texts) // 2):
            raise DataError(
                f'csv: {path}: "{first}" has {len(classes)} different values in {len(texts)} rows, too many '
                "for classes; name another target"
            )
        place = {text: number for number, text in enumerate(classes)}
        return torch.tensor([place[text] for text in texts]), tuple(classes), ()
    said = (
        f'"{first}" has {different} different whole numbers, taken for values; --task classification if not'
    )
    guessed = whole and task is None
    return torch.tensor(values, dtype=torch.float32)[:, None], names, (said,) * guessed


def fitted(rows: Rows) -> tuple[Column, ...]:
    """The columns as networks read them, fitted to these rows: means, deviations, categories, whether values are
    missing. A column that has one value only, and none missing, is left out. Raises DataError if no column is left.
    """
    found = [_column(name, [row[place] for row in rows.cells]) for place, name in enumerate(rows.names)]
    columns = tuple(column for column in found if column is not None)
    if not columns:
        raise DataError("csv: every column has the same value in all training rows; add columns or rows")
    return columns


def _column(name: str, cells: Sequence[str]) -> Column | None:
    present = [text for text in cells if not is_missing(text)]
    gaps = len(present) < len(cells)
    numbers = [number_of(text) for text in present]
    values = [value for value in numbers if value is not None]
    if len(values) == len(present):
        mean = math.fsum(values) / max(1, len(values))
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values)))
        return Column(name, mean, std or 1.0, gaps=gaps) if std or (gaps and values) else None
    counts = Counter(present)
    common = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_CATEGORIES]
    return Column(name, categories=tuple(sorted(common)), gaps=gaps) if len(common) > 1 or gaps else None


def encoded(rows: Rows, columns: Sequence[Column], where: str) -> ValueSplit:
    """The rows as inputs. Raises DataError."""
    try:
        inputs = encode(rows.names, rows.cells, columns)
    except ValueError as error:
        raise DataError(f"{where}: {error}; fix the file, or leave the column out with &drop=") from None
    return ValueSplit(torch.tensor(inputs, dtype=torch.float32), rows.labels)
