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
from nas.ledger.scores import chosen, labelled
from nas.ledger.types import Criterion, Kind
from nas.progress.remaining import Work, final_left, search_and_final

MARKS = 200  # reports of a trial's steps that are kept to tell its speed
TOO_LOW = 1.15  # how many times the time left that was told may be too low before it rises


@dataclass
class Competitor:
    """One job of the current generation. began: when it was told to start, on the progress's clock."""

    job: Job
    began: float = 0.0
    step: int = 0
    loss: float | None = None
    record: TrialRecord | None = None
    length: int | None = None  # in steps, if that is not the job's
    reports: list[tuple[float, int]] = field(
        default_factory=list[tuple[float, int]]
    )  # (when, steps), at most MARKS

    @property
    def steps(self) -> int:
        """Its length in steps; a final training changes it to fit a budget."""
        return self.job.steps if self.length is None else self.length

    def report(self, now: float, step: int, loss: float, steps: int | None) -> None:
        """It has trained further."""
        self.step, self.loss, self.length = step, loss, steps
        self.reports.append((now, step))
        if len(self.reports) > MARKS:
            del self.reports[1::2]

    @property
    def pace(self) -> float | None:
        """Seconds of a step in the later half of what it has done, since the first steps and busy times mislead."""
        if not self.reports:
            return None
        (now, done), (then, first) = (
            self.reports[-1],
            min(self.reports, key=lambda mark: abs(mark[1] - self.step / 2)),
        )
        return (now - then) / (done - first) if done > first else None

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
    began: float = 0.0  # when the generation was started, on the clock
    before: float | None = None  # wall seconds of a trial of the generation before it
    open_generation: bool = False  # whether it has not ended yet
    first: int | None = None  # multiply-adds of the seed network
    last: int | None = None  # and of the network that the last generation's trials started from
    records: list[TrialRecord] = field(default_factory=list[TrialRecord])  # of the session's trials
    largest: int = 0  # competitors of a generation, at most, after the first has ended
    told_left: tuple[float, float] | None = None  # when the time left was told last, and what was told
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
            seed = next((r.result for r in view.complete if r.job.kind is Kind.SEED), None)
            self.first = None if seed is None else seed.macs

    def start(self, generation: int, jobs: Sequence[Job]) -> None:
        """A generation starts, or more of it. Running jobs of earlier generations stay listed."""
        with self.lock:
            if generation != self.generation:
                self._close_generation()
                self.competitors = {key: c for key, c in self.competitors.items() if c.record is None}
                self.began, self.open_generation = self.clock(), True
            self.generation = generation
            self.competitors |= {job.key: Competitor(job, self.clock()) for job in jobs}

    def step(self, key: str, step: int, loss: float, steps: int | None = None) -> None:
        """A competitor has trained further."""
        with self.lock:
            if key in self.competitors:
                self.competitors[key].report(self.clock(), step, loss, steps)

    def tell(self, record: TrialRecord) -> None:
        """A trial ended."""
        with self.lock:
            key = record.job.key
            self.records.append(record)
            self.competitors.setdefault(key, Competitor(record.job, self.clock())).record = record
            if record.job.final and record.result is not None:
                self.best = record

    def end(self, best: TrialRecord) -> None:
        """A generation ended."""
        with self.lock:
            self._close_generation()
            if self.first is None and best.result is not None:
                self.first = best.result.macs
            self.best = self.incumbent = best
            searched = [c for c in self.competitors.values() if c.job.generation == self.generation > 0]
            self.largest = max(self.largest, len(searched))

    def _close_generation(self) -> None:
        """Note how long its trials took, once."""
        ended = sum(
            c.record is not None for c in self.competitors.values() if c.job.generation == self.generation
        )
        if ended and self.open_generation:
            at_once = 1 if self.generation or self.config is None else min(self.config.workers, self.planned)
            self.before = (self.clock() - self.began) / ended / at_once
            self.last = None if self.best is None or self.best.result is None else self.best.result.macs
            self.open_generation = False

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
    def planned(self) -> int:
        """Trials in a generation, as the configuration has them."""
        config = self.config
        return 1 if config is None else config.children + (config.policy_settings.get("parent") is not False)

    @property
    def select(self) -> Criterion | None:
        """The criterion by which the search selects; None before it is known."""
        return None if self.config is None else self.config.select or None

    def elapsed(self) -> float:
        """Wall seconds of this session."""
        return self.clock() - self.opened

    def left(self) -> float | None:
        """Seconds left; None if unknown. It shrinks as time goes by, unless it turns out to have been far too low."""
        with self.lock:
            found, now = self._left(), self.clock()
            if found is not None and self.told_left is not None:
                then, before = self.told_left
                expected = max(0.0, before - (now - then))
                found = expected if expected < found < TOO_LOW * expected else found
            self.told_left = None if found is None else (now, found)
            return found

    def _left(self) -> float | None:
        """Seconds left, by the budget or estimated from the work (`nas.progress.remaining`); the smaller if both are
        known.
        """
        if self.config is None:
            return None
        budget = self.config.budget
        known = [] if budget is None else [max(0.0, budget - self.spent - self.elapsed())]
        final = next((c for c in self.competitors.values() if c.job.final), None)
        if final is not None:
            since = self.clock() - final.began
            last = (
                0.0
                if final.record
                else final_left(self.incumbent, final.steps, final.step, since, final.pace)
            )
            return min([*known, last]) if last is not None else next(iter(known), None)
        if known and self.config.schedule == "lineage" and self.config.most_epochs is None:
            return known[0]  # a lineage uses all of its budget
        rest = search_and_final(self._work(self.config))
        return min([*known, rest]) if rest is not None else next(iter(known), None)

    def _work(self, config: RunConfig) -> Work:
        present = [c for c in self.competitors.values() if c.job.generation == self.generation]
        undone = sum(1 - c.share for c in self.competitors.values())
        size = max(1, self.largest or self.planned, len(present))
        if self.generation > 0:
            undone += max(0, size - len(present))  # trials that start one by one
        now = self.clock()
        return Work(
            config, size, self.generation, undone, now - self.began, self.before, self.records,
            self.best or next((r for r in reversed(self.records) if r.result is not None), None), self.first, self.last,
        )  # fmt: skip

    def share(self) -> float:
        """How much of the whole run is done, 0 to 1; 0 if unknown."""
        with self.lock:
            left, used = self.left(), self.spent + self.elapsed()
            return 0.0 if left is None else min(1.0, used / max(1e-9, used + left))


def value_of(record: TrialRecord | None, select: Criterion | None = None, full: bool = False) -> str:
    """The validation score of a trial that selects, as its lines show it; "–" if it has none.

    select: its criterion; None: the task's own score. full: with the task's own score behind, if that is another.
    """
    if record is None or record.result is None:
        return "–"
    result = record.result
    which, value = chosen(result.scores, select or result.main, result.main)
    text = labelled(which, value)
    return f"{text} ({labelled(result.main, result.value)})" if full and which != result.main else text


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
