"""The check before a search that every picture can be read, so that a damaged one is found now and not at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rich.progress import Progress

from nas.base.errors import DataError
from nas.base.printing import console
from nas.base.text import plural, span
from nas.data.types import one_line

Check = Literal["auto", "all", "none"]
SECONDS = 20.0  # "auto" checks everything if it takes no longer
FIRST = 64  # read to estimate how long everything takes
NAMED = 100  # bad items that an error names


@dataclass(frozen=True)
class Checked:
    """bad: the items that can't be read, by name, with the reason. skipped: what was left out, in words; or empty."""

    bad: Mapping[str, str]
    skipped: str = ""


def check_items(names: Sequence[str], read: Callable[[int], object], check: Check) -> Checked:
    """Read every item, or a sample if that would take long; collect all errors. names: of the items, for errors."""
    bad: dict[str, str] = {}
    if check == "none" or not names:
        return Checked(bad)
    began = time.monotonic()
    bar = Progress(console=console(sys.stderr), disable=not sys.stderr.isatty(), transient=True)
    with bar:
        task = bar.add_task("checking the pictures", total=len(names))
        for done, index in enumerate(_order(len(names))):
            if check == "auto" and done == min(FIRST, len(names) - 1):
                whole = (time.monotonic() - began) / max(1, done) * len(names)
                if whole > SECONDS:
                    return Checked(
                        bad, f"{plural(done, 'picture')} of {len(names)}, since all take {span(whole)}"
                    )
            try:
                read(index)
            except Exception as error:
                bad[names[index]] = one_line(error)
            bar.advance(task)
    return Checked(bad)


def _order(count: int) -> Iterator[int]:
    """All positions: first an even sample of them, then the rest."""
    first = [int(place) for place in np.linspace(0, count - 1, min(FIRST, count)).round()]
    yield from first
    taken = set(first)
    yield from (place for place in range(count) if place not in taken)


def refuse(where: str, bad: Mapping[str, str], total: int) -> None:
    """Raise DataError that names the bad items, if there are any. where: begins the error."""
    if not bad:
        return
    reasons: dict[str, list[str]] = {}
    for name, reason in sorted(bad.items())[:NAMED]:
        reasons.setdefault(reason, []).append(name)
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    raise DataError(
        f"{where}: {len(bad)} of {plural(total, 'picture')} cannot be read: {listed}{more}; replace or remove them"
    )
