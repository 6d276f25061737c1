"""The driver of a run: submits the jobs that the plan proposes and records their results.

One loop serves every policy: while a worker is free, the policy is asked what to start, given the ledger. A policy
with generations returns a whole generation, then nothing until that has ended. A policy without generations returns
the next trial, so that no worker is idle.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.base.errors import NasError, RunError
from nas.base.text import nas_command
from nas.execute.executor import Done, Executor, Progressed
from nas.ledger import Job, Ledger, LedgerView, Reached, Result
from nas.ledger.notes import Note
from nas.ledger.types import State, Stopped
from nas.ledger.wall_time import overhead, seconds_of
from nas.run.charge import spent, trial_cost
from nas.run.curves import Curves
from nas.run.events import Callback, Outcome
from nas.run.final_training import Timing, final_steps, next_part
from nas.run.plan import Plan, as_seen, final_job, next_jobs, seed_job
from nas.run.replay import Replay
from nas.run.retention import Retention
from nas.run.speed import closing_seconds, seconds_of_next
from nas.train.evaluate import Scores

MAX_FAILED_GENERATIONS = (
    2  # in a row, without a single result: no longer bad luck, so the run ends with an error
)
POLL_SECONDS = 0.5
NOTE_WALL_SECONDS = 10.0  # how much wall time a kill may leave unrecorded
OVER = (
    "the budget left no time to begin it"  # why the rest of a generation fails on a machine that became busy
)


@dataclass
class Engine:
    """Drives one run from the current state of its ledger to its end.

    began: when this process began to work on the run, by the monotonic clock. startup: see `closing_seconds`.
    replay: the decisions of another run of the same configuration that depended on time; with it, this run decides
    the same.
    """

    plan: Plan
    run: Path
    ledger: Ledger
    callback: Callback
    executor: Executor
    began: float
    replay: Replay | None = None
    startup: float = 0.0
    _before: float = field(init=False)
    _noted: float = field(init=False, default=0.0)
    _open: int | None = field(init=False, default=None)  # the generation that was started last
    _held: deque[int] = field(init=False, default_factory=deque[int])  # trials to begin when a worker is free
    _sweeper: Retention = field(init=False)
    _curves: Curves = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.ledger.notes.wall
        self._curves = Curves(self.ledger)
        # A replay decides later than trials end: a trial discarded here may still be a parent in the replayed run.
        best = self.plan.config.keep_best if self.replay is None else None
        self._sweeper = Retention(
            self.ledger, self.plan.policy, best, self.plan.config.select, self.plan.config.start
        )

    def go(self, resumed: bool) -> Outcome:
        """Do everything that is left to do.

        Ctrl-C (KeyboardInterrupt) ends it early; no recorded result is lost. Raises NasError when there is no
        outcome: no trial ended, every competitor failed, or the final training failed.
        """
        stopped: Stopped
        try:
            if self.ledger.notes.select != self.plan.config.select:
                self.ledger.note(Note.SELECT, self.plan.config.select)
            self._note_incumbent()
            self.callback.on_run_start(self.run, self.plan.config, self.ledger.view(), resumed)
            self._sweeper.sweep(opening=True)
            stopped = self._search()
            self._train_final(stopped)
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            self.executor.close()
            self._note_wall()
        outcome = outcome_of(self.run, self.ledger.view(), stopped)
        self.callback.on_run_end(outcome)
        return outcome

    def _search(self) -> Stopped:
        """Run trials until there is a reason to stop. The reason is noted, and a resumed run respects it."""
        if noted := self.ledger.notes.stopped:
            return noted
        running: dict[int, Job] = {}
        left = [record for record in self.ledger.view().trials if record.running]
        if left:
            self._begin([record.job for record in left], running)
        while True:
            why = self._fill(running)
            if not running:
                self._end_generation()
                self.ledger.note(Note.STOPPED, why)
                return why
            self._collect(running)
            if not running and (self.plan.policy.generational or self._open == 0):
                self._end_generation()

    def _fill(self, running: dict[int, Job]) -> Stopped:
        """Start what the policy proposes while a worker is free. Return why nothing more was started."""
        while len(running) < self.plan.config.workers:
            view = self.ledger.view()
            jobs = self._jobs(view)
            why = self._why_stop(view, jobs) if jobs else "exhausted"
            if why:
                return why
            self._begin(jobs, running)
        return "exhausted"

    def _jobs(self, view: LedgerView) -> Sequence[Job]:
        if not view.complete:
            if any(record.running for record in view.trials):
                return ()
            return (seed_job(self.plan, len(view.trials)),)
        seen = self.replay.ended(len(view.trials)) if self.replay else None
        if seen is not None:
            if not seen <= {record.key for record in view.trials if not record.running}:
                return ()
            view = as_seen(view, seen)
        return next_jobs(self.plan, view)

    def _end_generation(self) -> None:
        """Report the end of the generation that was started last. Raises NasError if too many have failed."""
        if self._open is None:
            return
        view, ended, self._open = self.ledger.view(), self._open, None
        if view.complete:
            self.callback.on_generation_end(ended, self.plan.policy.incumbent(view))
        lived = (record.job.generation for record in view.trials if record.state is not State.FAILED)
        failed = ended - max((generation for generation in lived if generation <= ended), default=-1)
        if failed >= (MAX_FAILED_GENERATIONS if ended else 1):
            reasons = [record.reason for record in view.generation(ended) if record.reason]
            fact = f"every competitor of {failed} generations failed, the last with"
            if ended == 0:
                fact = "training the seed network failed"
            reason = reasons[-1] if reasons else "unknown"
            raise NasError(
                f"search: {fact}: {reason}; fix the cause and continue with: {nas_command('resume', self.run)}; with "
                "other settings, begin anew"
            )

    def _why_stop(self, view: LedgerView, jobs: Sequence[Job]) -> Stopped | None:
        """Why `jobs` must not start; None if they may. A generation that was started is finished, unless its time is
        over (`_begin_held`).
        """
        config, generation = self.plan.config, jobs[0].generation
        if self.replay is not None:
            return self.replay.stopped if len(view.trials) >= self.replay.trials else None
        if self.plan.policy.generational and (begun := view.generation(generation)):
            return "budget" if any(record.reason == OVER for record in begun) else None
        if config.generations is not None and generation > config.generations:
            return "generations"
        share = 1 - config.final_share if config.grow_share is None else config.grow_share
        if config.cost is not None and generation > 0:
            each = (trial_cost(job, config, self.plan.validation) for job in jobs)
            if config.cost * share - spent(view, config, self.plan.validation) < sum(each):
                return "budget"
        if config.budget is not None and generation > 0:
            left = config.budget * share - self._wall()
            if left < self._seconds_for(view, len(jobs)):
                return "budget"
        return None

    def _seconds_for(self, view: LedgerView, trials: int) -> float:
        """Estimated seconds for `trials` trials and the rungs above them, from the last generation with results: all
        competitors of a rung cost about the same.
        """
        last = max(record.job.generation for record in view.complete)
        rungs: dict[int, list[float]] = {}
        for record in view.complete:
            if record.job.generation == last and record.result:
                rungs.setdefault(record.job.training.rung, []).append(seconds_of(record.result))
        rounds = {rung: -(-len(spent) // self.plan.config.workers) for rung, spent in rungs.items()}
        rounds[0] = -(-trials // self.plan.config.workers)
        return sum(max(spent) * rounds[rung] for rung, spent in rungs.items())

    def _begin(self, jobs: Sequence[Job], running: dict[int, Job]) -> None:
        """Record `jobs` in the ledger, unless a former process did, and submit them.

        Longest jobs first, so that no worker waits long for the others at the end of a generation.
        """
        new = jobs[0].generation != self._open
        if new and not jobs[0].final:
            self._end_generation()
            self._open = jobs[0].generation
        self.callback.on_generation_start(jobs[0].generation, jobs)
        view = self.ledger.view()
        known = {record.key: record for record in view.trials}
        for job in sorted(jobs, key=lambda job: -job.steps):
            record = known.get(job.key)
            number, asked = (record.number, record.job) if record else (self.ledger.ask(job), job)
            if self.replay is not None and job.key in self.replay.failed:
                self.ledger.fail(number, self.replay.failed[job.key])
                self.callback.on_trial_end(self.ledger.view().trial(job.key))
                continue
            running[number] = asked
            if self.plan.config.budget is not None and len(running) > self.plan.config.workers:
                self._held.append(number)
            else:
                self._submit(number, asked, self.ledger.reached(number))
        if new:
            self._sweeper.sweep()

    def _submit(self, number: int, job: Job, reached: Reached | None) -> None:
        config, lengths = self.plan.config, self.replay.lengths if self.replay else ()
        # A search of restarts ends with the steps that it planned, as it did when there was no other schedule.
        clocked = config.schedule == "lineage" and self.replay is None
        left = config.budget - self._wall() if clocked and config.budget is not None else None
        timing = Timing(left, self.startup, lengths)
        self.executor.submit(number, next_part(self.plan, self.ledger.view(), job, reached, timing))

    def _begin_held(self, running: dict[int, Job]) -> None:
        """Begin the next trial of a generation, if it fits into what is left of the budget; else none of the rest."""
        if not self._held:
            return
        config, job = self.plan.config, running[self._held[0]]
        if self.replay is None and config.budget is not None and job.generation > 0:
            closing = closing_seconds(self.startup, config.budget)
            left = config.budget * (1 - config.final_share) - self._wall() - closing
            if left < seconds_of_next(self.ledger.view(), job.generation):
                while self._held:
                    number = self._held.popleft()
                    self.ledger.fail(number, OVER)
                    self.callback.on_trial_end(self.ledger.view().trial(running.pop(number).key))
                return
        self._submit(self._held.popleft(), job, None)

    def _collect(self, running: dict[int, Job]) -> None:
        """Wait until at least one trial ends, and record the results."""
        before = len(running)
        while len(running) >= before:
            for event in self.executor.poll(POLL_SECONDS):
                job = running.get(event.number)
                if job is None:
                    continue
                if isinstance(event, Progressed):
                    self._curves.add(event.number, event.step, event.steps, event.loss)
                    self.callback.on_step(job.key, event.step, event.steps, event.loss)
                elif isinstance(event.result, Reached):
                    self.ledger.advance(event.number, event.result)
                    self._sweeper.sweep()
                    self._submit(event.number, job, event.result)
                else:
                    self._tell(event, event.result, job)
                    del running[event.number]
                    self._begin_held(running)
            self._curves.write()
            if self._wall() - self._noted > NOTE_WALL_SECONDS:
                self._note_wall()

    def _tell(self, event: Done, result: Result | None, job: Job) -> None:
        self._curves.write(now=True)
        if result is not None:
            self.ledger.tell(event.number, result)
        elif event.fault:  # the trial stays "running", so that a resume runs it again under its slot and seed
            raise RunError(f"{event.reason} (then continue with: {nas_command('resume', self.run)})")
        else:
            self.ledger.fail(event.number, event.reason or "it ended without a result")
        self._note_wall()
        self._note_incumbent()
        self.callback.on_trial_end(self.ledger.view().trial(job.key))

    def _train_final(self, stopped: Stopped) -> None:
        """Train the best network further and read the test split, once. A failed final training is tried again."""
        view = self.ledger.view()
        asked = [record for record in view.trials if record.job.final]
        if asked and asked[-1].state is not State.FAILED:
            job = asked[-1].job
        else:
            again = self.replay.final_steps if self.replay else asked[-1].job.steps if asked else None
            steps = (
                final_steps(self.plan, view, stopped, self._wall(), self.startup) if again is None else again
            )
            job = final_job(self.plan, view, steps)
        running: dict[int, Job] = {}
        if not asked or asked[-1].state is not State.COMPLETE:
            self._begin((job,), running)
            while not running:  # it failed in the replayed run, which tried again
                job = final_job(self.plan, self.ledger.view(), job.steps)
                self._begin((job,), running)
            self._collect(running)
        record = self.ledger.view().trial(job.key)
        if record.state is State.FAILED:
            remedy = f"try again with: {nas_command('resume', self.run)}"
            raise NasError(f"search: training the final network failed: {record.reason}; {remedy}")
        self._sweeper.sweep()

    def _note_incumbent(self) -> None:
        """Record the policy's incumbent. Readers of the run can't ask the policy, which may be a user's code."""
        view = self.ledger.view()
        if view.searched and (best := self.plan.policy.incumbent(view).key) != view.notes.incumbent:
            self.ledger.note(Note.INCUMBENT, best)

    def _wall(self) -> float:
        return self._before + time.monotonic() - self.began

    def _note_wall(self) -> None:
        self._noted = self._wall()
        self.ledger.note(Note.WALL, round(self._noted, 3))


def outcome_of(run: Path, view: LedgerView, stopped: Stopped) -> Outcome:
    """The outcome of the run so far. Raises NasError when no trial has ended."""
    best = view.best
    if best is None:
        raise NasError(
            f"search: stopped before the first trial ended; continue with: {nas_command('resume', run)}"
        )
    test = None
    if view.final is not None and view.final.result is not None:
        scores = view.final.result.scores
        values = {
            name.removeprefix("test_"): value for name, value in scores.items() if name.startswith("test_")
        }
        test = Scores({name: value for name, value in values.items() if name != "loss"}, values["loss"])
    wall = view.notes.wall
    return Outcome(run, view, best, test, wall, overhead(view, wall), stopped)
