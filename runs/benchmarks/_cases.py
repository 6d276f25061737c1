"""Many small cases, each of which says what went wrong or nothing: trying, counting, timing."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from _common import Figure, figure

Case = Callable[[], str | None]


@dataclass
class Outcome:
    """How many cases of a part there were, what went wrong, and the processor seconds of it all."""

    part: str
    cases: int = 0
    faults: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    def figures(self, what: str) -> list[Figure]:
        """The part's figures. what: what a fault is."""
        return [
            figure(f"{self.part}: cases", self.cases, "", "> 0"),
            figure(f"{self.part}: {what}", len(self.faults), "", "<= 0"),
            figure(f"{self.part}: processor time", self.seconds, "s", None),
        ]


def attempt(part: str, cases: Iterable[Case]) -> Outcome:
    """Every case of a part; the first faults are said at once."""
    outcome, begin = Outcome(part), time.process_time()
    for case in cases:
        outcome.cases += 1
        fault = case()
        if fault is not None:
            outcome.faults.append(fault)
            if len(outcome.faults) <= 3:
                print(f"  {part}, case {outcome.cases}: {fault}", flush=True)
    outcome.seconds = time.process_time() - begin
    found = f"{outcome.cases} cases, {len(outcome.faults)} faults"
    print(f"  {part}: {found}, {outcome.seconds:.0f} s of processor time", flush=True)
    return outcome


def examined(parts: Iterable[tuple[str, Iterable[Case]]], stride: int, what: str) -> list[Figure]:
    """The figures of some parts, each by name with its cases. stride: take every so many-th. what: what a fault is."""
    figures: list[Figure] = []
    for part, cases in parts:
        figures += attempt(part, islice(cases, 0, None, stride)).figures(what)
    return figures


def asked(doc: str | None, parts: Sequence[str], quick: int) -> tuple[Sequence[str], int]:
    """The parts and the stride of the command line. quick: the stride of --quick."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--stride", type=int, default=1, help="every so many-th case only")
    parser.add_argument("--quick", action="store_true", help=f"a stride of {quick}")
    arguments = parser.parse_args()
    return arguments.only, quick if arguments.quick else arguments.stride


@contextmanager
def in_memory(prefix: str) -> Generator[Path]:
    """A temporary folder, in memory where there is a file system for that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
