"""The driver of a run: has performed what the plan proposes, and tells what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from nas.errors import NasError, RunError
from nas.evaluate import Scores
from nas.events import Outcome, Stopped, Watcher
from nas.execute import Done, Executor, Progressed
from nas.ledger import Job, Ledger, LedgerView
from nas.schedule import Plan, final_job, generation_jobs, last_generation, lineage_steps, seed_job
from nas.standing import overhead

BARREN = 2  # generations in a row without a single result that end a run: not one bad draw, a cause to mend
POLL_SECONDS = 0.5
NOTE_WALL_SECONDS = 10.0  # what a kill may take off the account of wall time


@dataclass
class Engine:
    """Drives one run from wherever its ledger stands to its end.

    began: when this process began to work on the run, by the monotonic clock.
    """

    plan: Plan
    run: Path
    ledger: Ledger
    watcher: Watcher
    executor: Executor
    began: float
    _before: float = field(init=False)
    _noted: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._before = wall_of(self.ledger.view())

    def go(self, resumed: bool) -> Outcome:
        """Everything that is left to do.

        Ctrl-C (KeyboardInterrupt) ends it early, with nothing lost that was told. Raises NasError where there
        is no outcome: no trial ended, every competitor failed, or the final training did.
        """
        stopped: Stopped
        try:
            if "select" not in self.ledger.notes:
                self.ledger.note("select", self.plan.config.select)
            self.watcher.run_opened(self.run, self.plan.config, self.ledger.view(), resumed)
            stopped = self._search()
            self._train_final(stopped)
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            self.executor.close()
            self._note_wall()
        outcome = outcome_of(self.run, self.ledger.view(), stopped)
        self.watcher.run_finished(outcome)
        return outcome

    def _search(self) -> Stopped:
        """Generation after generation, until there is a reason to stop, which is noted: a resumed run keeps to it."""
        if noted := self.ledger.notes.get("stopped"):
            return cast(Stopped, noted)
        generation = last_generation(self.ledger.view())
        barren = 0
        while True:
            view = self.ledger.view()
            why = None if view.generation(generation) else self._why_stop(view, generation)
            jobs = () if why else self._jobs(view, generation)
            if not jobs:
                self.ledger.note("stopped", why or "exhausted")
                return why or "exhausted"
            self._perform(generation, jobs)
            barren = 0 if self._fertile(generation) else barren + 1
            if barren:
                self._check_barren(generation, barren)
            generation += 1

    def _jobs(self, view: LedgerView, generation: int) -> Sequence[Job]:
        return (seed_job(self.plan),) if generation == 0 else generation_jobs(self.plan, view, generation)

    def _fertile(self, generation: int) -> bool:
        return any(record.state == "complete" for record in self.ledger.view().generation(generation))

    def _check_barren(self, generation: int, barren: int) -> None:
        """Raise NasError where going on makes no sense."""
        reason = next((r.reason for r in self.ledger.view().generation(generation) if r.reason), "unknown")
        if generation == 0:
            raise NasError(
                f"search: training the seed network failed: {reason}; mend that and start a new run"
            )
        if barren >= BARREN:
            fact = f"every competitor of {barren} generations failed, the last with: {reason}"
            raise NasError(f"search: {fact}; mend that and go on with: nas resume {self.run}")

    def _why_stop(self, view: LedgerView, generation: int) -> Stopped | None:
        """Whether `generation` must not begin any more."""
        config = self.plan.config
        if config.generations is not None and generation > config.generations:
            return "generations"
        if config.budget is not None and generation > 0:
            left = config.budget * (1 - config.final_share) - self._wall()
            if left < self._seconds_for_generation(view):
                return "budget"
        return None

    def _seconds_for_generation(self, view: LedgerView) -> float:
        """An estimate from the last trials that ended well: all competitors of a generation cost about the same."""
        last = max(record.job.generation for record in view.complete)
        each = max(_working(r.result.seconds) for r in view.complete if r.job.generation == last and r.result)
        return each * self.plan.rounds

    def _perform(self, generation: int, jobs: Sequence[Job]) -> None:
        """Have every job performed that isn't told yet."""
        known = {record.key: record for record in self.ledger.view().trials}
        todo = [job for job in jobs if job.key not in known or known[job.key].state == "running"]
        if not todo:
            return
        self.watcher.generation_started(generation, todo)
        waiting: dict[int, Job] = {}
        for job in todo:
            record = known.get(job.key)
            number, asked = (record.number, record.job) if record else (self.ledger.ask(job), job)
            waiting[number] = asked
            self.executor.submit(number, asked)
        while waiting:
            for event in self.executor.poll(POLL_SECONDS):
                job = waiting.get(event.number)
                if job is None:
                    continue
                if isinstance(event, Progressed):
                    self.watcher.progress(job.key, event.step, event.steps, event.loss)
                else:
                    self._tell(event, job)
                    del waiting[event.number]
            if self._wall() - self._noted > NOTE_WALL_SECONDS:
                self._note_wall()
        view = self.ledger.view()
        if jobs[0].kind != "final" and view.complete:
            self.watcher.generation_ended(generation, self.plan.policy.incumbent(view))

    def _tell(self, event: Done, job: Job) -> None:
        if event.result is not None:
            self.ledger.tell(event.number, event.result)
        elif event.fault:  # left running: it will be run again under its slot and seed
            raise RunError(f"{event.reason} (then go on with: nas resume {self.run})")
        else:
            self.ledger.fail(event.number, event.reason or "it ended without a result")
        self._note_wall()
        self.watcher.trial_told(self.ledger.view().trial(job.key))

    def _train_final(self, stopped: Stopped) -> None:
        """Train the best network on and read the test split, once. A final training that failed is tried anew."""
        view = self.ledger.view()
        asked = [record for record in view.trials if record.job.kind == "final"]
        if asked and asked[-1].state != "failed":
            job = asked[-1].job
        else:
            job = final_job(
                self.plan, view, asked[-1].job.steps if asked else self._final_steps(view, stopped)
            )
        self._perform(job.generation, (job,))
        record = self.ledger.view().trial(job.key)
        if record.state == "failed":
            again = f"try it once more with: nas resume {self.run}"
            raise NasError(f"search: training the final network failed: {record.reason}; {again}")

    def _final_steps(self, view: LedgerView, stopped: Stopped) -> int:
        """`final_share` of all training, or, where the budget ended the search, what is left of that."""
        config = self.plan.config
        if not config.final_share:
            return 0
        fair = round(config.final_share / (1 - config.final_share) * lineage_steps(self.plan, view))
        if config.budget is None:
            return fair
        best = self.plan.policy.incumbent(view)
        assert best.result is not None
        pace = best.result.seconds["train"] / max(1, best.job.steps)
        left = config.budget - self._wall() - 2 * best.result.seconds["evaluate"] - 1.0
        affordable = max(0, int(0.95 * left / pace))
        return affordable if stopped == "budget" else min(fair, affordable)

    def _wall(self) -> float:
        return self._before + time.monotonic() - self.began

    def _note_wall(self) -> None:
        self._noted = self._wall()
        self.ledger.note("wall", round(self._noted, 3))


def outcome_of(run: Path, view: LedgerView, stopped: Stopped) -> Outcome:
    """How the run stands. Raises NasError when nothing has come of it yet."""
    best = view.final or view.best
    if best is None:
        raise NasError(f"search: stopped before the first trial ended; go on with: nas resume {run}")
    test = None
    if view.final is not None and view.final.result is not None:
        scores = view.final.result.scores
        test = Scores(scores["test_accuracy"], scores["test_loss"])
    wall = wall_of(view)
    return Outcome(run, view, best, test, wall, overhead(view, wall), stopped)


def wall_of(view: LedgerView) -> float:
    """Wall seconds that drivers have spent on the run, as far as they could note it."""
    return float(view.notes.get("wall", 0.0))


def _working(seconds: object) -> float:
    """Seconds of a trial's own work."""
    laps = cast("dict[str, float]", seconds)
    return sum(value for name, value in laps.items() if not name.startswith("busy_"))
