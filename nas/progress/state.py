"""The state behind a progress view: facts collected from a run's events, and the estimated time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from morphs import Move, parse_chain
from morphs.errors import MorphError
from morphs.textform import format_call
from nas.config.run_config import RunConfig
from nas.ledger import Job, LedgerView, TrialRecord
from nas.ledger.scores import labelled
from nas.ledger.types import Kind


@dataclass
class Competitor:
    """One job of the current generation. began: when it was told to start, on the progress's clock."""

    job: Job
    began: float = 0.0
    step: int = 0
    loss: float | None = None
    record: TrialRecord | None = None
    length: int | None = None  # in steps, if that is not the job's

    @property
    def steps(self) -> int:
        """Its length in steps; a final training changes it to fit a budget."""
        return self.job.steps if self.length is None else self.length

    @property
    def share(self) -> float:
        """How much of its training is done, 0 to 1."""
        return 1.0 if self.record is not None else min(1.0, self.step / max(1, self.steps))


@dataclass
class RunProgress:
    """The state of one run according to its events. `lock` guards it, since views draw in another thread."""

    clock: Callable[[], float] = time.monotonic
    lock: threading.RLock = field(default_factory=threading.RLock)
    run: Path | None = None
    config: RunConfig | None = None
    resumed: bool = False
    opened: float = 0.0  # on the clock
    spent: float = 0.0  # wall seconds of earlier sessions
    generation: int = -1
    first: float | None = None  # units of work that were done when this session began
    trains: float | None = None  # when its first step was done, on the clock
    incumbent: TrialRecord | None = None  # of the last generation that ended
    best: TrialRecord | None = None  # the incumbent, or the final network once there is one
    competitors: dict[str, Competitor] = field(default_factory=dict[str, Competitor])

    def __post_init__(self) -> None:
        self.opened = self.clock()

    def open(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        """The run is open; `view` holds the results of earlier sessions."""
        with self.lock:
            self.run, self.config, self.resumed = run, config, resumed
            self.spent = view.notes.wall
            self.best = self.incumbent = view.incumbent

    def start(self, generation: int, jobs: Sequence[Job]) -> None:
        """A generation starts, or more of it. Running jobs of earlier generations stay listed."""
        with self.lock:
            if generation != self.generation:
                self.competitors = {key: c for key, c in self.competitors.items() if c.record is None}
            self.generation = generation
            self.competitors |= {job.key: Competitor(job, self.clock()) for job in jobs}
            if self.first is None:
                self.first = self.work

    def step(self, key: str, step: int, loss: float, steps: int | None = None) -> None:
        """A competitor has trained further."""
        with self.lock:
            self.trains = self.clock() if self.trains is None else self.trains
            if key in self.competitors:
                self.competitors[key].step, self.competitors[key].loss = step, loss
                self.competitors[key].length = steps

    def tell(self, record: TrialRecord) -> None:
        """A trial ended."""
        with self.lock:
            self.trains = self.opened if self.trains is None else self.trains
            key = record.job.key
            self.competitors.setdefault(key, Competitor(record.job, self.clock())).record = record
            if record.job.final and record.result is not None:
                self.best = record

    def end(self, best: TrialRecord) -> None:
        """A generation ended."""
        with self.lock:
            self.best = self.incumbent = best

    @property
    def final(self) -> bool:
        """Whether the final training is running."""
        return any(c.job.final for c in self.competitors.values())

    @property
    def ended(self) -> int:
        """Competitors of this generation that ended."""
        return sum(c.record is not None for c in self.competitors.values())

    @property
    def part(self) -> float:
        """How much of the current generation is done, 0 to 1."""
        return sum(c.share for c in self.competitors.values()) / max(1, len(self.competitors))

    @property
    def work(self) -> float:
        """Units of work done: one per generation, including the seed's; those of the final training come last."""
        if not self.final:
            return self.generation + self.part
        return self._search_work + self.part * self._final_work

    @property
    def _search_work(self) -> float:
        assert self.config is not None
        return float((self.config.generations or self.generation) + 1)

    @property
    def _final_work(self) -> float:
        """In units of a generation: the final training is `final_share` of the total."""
        assert self.config is not None
        return self._search_work * self.config.final_share / (1 - self.config.final_share)

    def elapsed(self) -> float:
        """Wall seconds of this session."""
        return self.clock() - self.opened

    def left(self) -> float | None:
        """Seconds left, by the budget or estimated from the work done; the smaller if both are known."""
        with self.lock:
            if self.config is None:
                return None
            known: list[float] = []
            if self.config.budget is not None:
                known.append(max(0.0, self.config.budget - self.spent - self.elapsed()))
            if self.final and (last := self._final_left()) is not None:
                return min([*known, last])
            if self.config.budget is not None and self.config.schedule == "lineage":
                return known[0]  # a lineage uses all of its budget
            done = self.work - (self.first or 0.0)
            if (self.config.generations is not None or self.final) and done > 0.02:
                total = self._search_work + self._final_work
                pace = (self.clock() - (self.opened if self.trains is None else self.trains)) / done
                known.append(pace * max(0.0, total - self.work))
            return min(known) if known else None

    def _final_left(self) -> float | None:
        """Seconds left of the final training, by its own steps or, before the first of them, by the incumbent's."""
        last = next(c for c in self.competitors.values() if c.job.final)
        if last.record is not None:
            return 0.0
        if last.share > 0:
            return (self.clock() - last.began) * (1 - last.share) / last.share
        result = None if self.incumbent is None else self.incumbent.result
        if result is None or self.incumbent is None or not self.incumbent.job.steps:
            return None
        return last.job.steps * result.seconds.get("train", 0.0) / self.incumbent.job.steps

    def share(self) -> float:
        """How much of the whole run is done, 0 to 1; 0 if unknown."""
        with self.lock:
            left, used = self.left(), self.spent + self.elapsed()
            return 0.0 if left is None else min(1.0, used / max(1e-9, used + left))


def value_of(record: TrialRecord | None) -> str:
    """The validation score of a trial, as its lines show it; "–" if it has none."""
    if record is None or record.result is None:
        return "–"
    return labelled(record.result.main, record.result.value)


def describe(job: Job) -> str:
    """A short description of a job: its moves, or its kind if it has none."""
    if job.final:
        return "final training"
    if job.moves:
        return brief(job.moves)
    return {Kind.SEED: "the seed network", Kind.PARENT: "parent, unchanged"}.get(job.kind, job.kind.value)


def brief(moves: str) -> str:
    """A chain of moves without fields at their default values."""
    try:
        chain = parse_chain(moves)
    except MorphError:  # for example a move of another version
        return moves
    return "; ".join(_brief(move) for move in chain)


def _brief(move: Move) -> str:
    said = {f.name: getattr(move, f.name) for f in fields(move) if getattr(move, f.name) != f.default}
    return format_call(move.name, [], said)
