"""Many small cases, each of which returns what went wrong, or None: trying them, counting, timing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from faults.figures import Figure

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
            Figure(f"{self.part}: cases", self.cases, "", "> 0"),
            Figure(f"{self.part}: {what}", len(self.faults), "", "<= 0"),
            Figure(f"{self.part}: processor time", self.seconds, "s", None),
        ]


def attempt(part: str, cases: Iterable[Case]) -> Outcome:
    """Try every case of a part; the first faults are printed at once."""
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


def examined(part: str, cases: Iterable[Case], stride: int, what: str) -> list[Figure]:
    """The figures of one part. stride: try every so many-th case. what: what a fault is."""
    return attempt(part, islice(cases, 0, None, stride)).figures(what)


def sample(cases: Iterable[Case], stride: int, stop: int | None = None) -> list[str]:
    """What went wrong in every `stride`-th case, up to the `stop`-th."""
    tried = [case() for case in islice(cases, 0, stop, stride)]
    assert tried
    return [fault for fault in tried if fault is not None]


@contextmanager
def in_memory(prefix: str) -> Generator[Path]:
    """A temporary folder, in memory where there is a file system for that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)
