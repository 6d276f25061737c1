"""The figures of a whole fault test: counts with their limits, printed and kept as one line of JSON."""

from __future__ import annotations

import json
import operator
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from nas.base.machine import machine

HERE = Path(__file__).parent
OUT = HERE / "out"  # what whole tests keep between calls; git ignores it
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "==": operator.eq}


@dataclass(frozen=True)
class Figure:
    """One measured value. target: a comparison such as "<= 0", or None."""

    name: str
    value: float
    unit: str = ""
    target: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value meets its target; None without one."""
        if self.target is None:
            return None
        sign, number = self.target.split()
        return bool(_COMPARE[sign](self.value, float(number)))


Report = Callable[[Sequence[Figure]], None]  # the fixture `report`


def missed(figures: Sequence[Figure]) -> list[str]:
    """The figures that miss their target, in words."""
    return [
        f"{each.name}: {each.value:.4g} {each.unit}, not {each.target}"
        for each in figures
        if each.holds is False
    ]


def keep(test: str, size: float, figures: Sequence[Figure]) -> None:
    """Print the figures, then one line of JSON, which is also appended to results.jsonl in the ignored folder."""
    width = max(len(each.name) for each in figures)
    for each in figures:
        verdict = "" if each.holds is None else f"   {'holds' if each.holds else 'MISSED'}: {each.target}"
        print(f"{each.name:<{width}}  {each.value:>10.4g} {each.unit}{verdict}")
    record = {
        "test": test,
        "size": size,
        "environment": environment(),
        "figures": [{**asdict(each), "holds": each.holds} for each in figures],
    }
    line = json.dumps(record)
    OUT.mkdir(exist_ok=True)
    with (OUT / "results.jsonl").open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


def environment() -> dict[str, object]:
    """The machine, the versions, the state of the source, and how busy the machine was."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return {
        **machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
        "load": [round(load, 2) for load in os.getloadavg()],
    }
