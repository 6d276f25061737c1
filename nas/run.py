"""A run from its first trial to its final network, and the same after any interruption."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nas.config import RunConfig, check_config
from nas.data import SearchData, load_search_data
from nas.errors import NasError, RunError, UserError
from nas.evaluate import Scores
from nas.events import Outcome, Watcher
from nas.execute import Done, Executor, LocalExecutor, Progressed
from nas.ledger import Job, Ledger, LedgerView, current_versions
from nas.machine import machine
from nas.schedule import Plan, final_job, generation_jobs, lineage_steps, make_plan, seed_job
from nas.speed import seconds_per_step

RUNS = Path("runs")
Stopped = Literal["budget", "generations", "exhausted", "interrupted"]


def default_run_folder(config: RunConfig) -> Path:
    """The first free runs/SPACE-DATA-NNN."""
    data = "".join(c if c.isalnum() or c in "-_" else "-" for c in config.data)[:40]
    number = 1
    while (folder := RUNS / f"{config.space}-{data}-{number:03d}").exists():
        number += 1
    return folder


def search(config: RunConfig, run: Path, watcher: Watcher, command: str) -> Outcome:
    """Search from scratch in the new folder `run`.

    Raises UserError for wrong input, before anything is written.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise RunError(
            f"search: {run} exists already; name another folder, or go on there with: nas resume {run}"
        )
    data = _load(config)
    plan = make_plan(config, data)
    _check_budget(plan, data)
    with Ledger.create(run, _description(config, data, command)) as ledger:
        return _Drive(plan, run, ledger, watcher, data.digest).go(resumed=False)


def resume(run: Path, watcher: Watcher, force: bool = False) -> Outcome:
    """Go on with an interrupted run, or say again how a finished one ended.

    Raises RunError when versions, machine or data differ from those of the run's beginning, unless `force`.
    """
    with Ledger.open(run) as ledger:
        stored = ledger.config.config
        config = check_config(stored["config"])
        data = _load(config)
        now = _description(config, data, "")
        changes = _changes(stored, now, ledger.config.versions)
        if changes and not force:
            raise RunError(
                f"resume: {run}: {'; '.join(changes)}; results would not be comparable, go on all the same with --force"
            )
        if changes:
            ledger.note("forced", [*ledger.notes.get("forced", []), changes])
        return _Drive(make_plan(config, data), run, ledger, watcher, data.digest).go(resumed=True)


def _load(config: RunConfig) -> SearchData:
    root = Path(config.data_root) if config.data_root else None
    return load_search_data(config.data, root, config.seed, config.val_fraction)


def _description(config: RunConfig, data: SearchData, command: str) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "command": command,
        "machine": machine(),
        "data": {
            "name": data.name,
            "classes": list(data.classes),
            "mean": list(data.mean),
            "std": list(data.std),
            "input_shape": list(data.input_shape),
            "images": {"train": len(data.train), "validation": len(data.val)},
            "digest": data.digest,
        },
    }


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    """What differs of the things that decide a run's numbers, in words."""
    pairs = [(f"version of {name}", versions.get(name), new) for name, new in current_versions().items()]
    pairs += [
        (name, before["machine"].get(name), now["machine"][name]) for name in ("processor", "capability")
    ]
    pairs.append(("content of the data set", before["data"]["digest"][:12], now["data"]["digest"][:12]))
    return [f"{name} was {old} and is {new}" for name, old, new in pairs if old != new]


def _check_budget(plan: Plan, data: SearchData) -> None:
    """UserError when the budget can't pay for the seed network's own training."""
    config = plan.config
    if config.budget is None:
        return
    job = seed_job(plan)
    need = job.steps * seconds_per_step(plan.space.seed, data, config.train, config.device, config.threads)
    have = config.budget * (1 - config.final_share)
    if need > have:
        raise UserError(
            f"search: a budget of {config.budget:.0f} s leaves {have:.0f} s for the search, and training the seed "
            f"network alone takes about {need:.0f} s; raise --budget or lower --epochs"
        )


@dataclass
class _Drive:
    """The driver: asks what the plan proposes, has it performed, tells what came of it."""

    plan: Plan
    run: Path
    ledger: Ledger
    watcher: Watcher
    data_digest: str
    _began: float = field(default_factory=time.monotonic)
    _before: float = 0.0

    def go(self, resumed: bool) -> Outcome:
        """Everything that is left to do."""
        self._before = float(self.ledger.notes.get("wall", 0.0))
        executor = LocalExecutor(self.run, self.plan.config)
        try:
            self.watcher.run_opened(self.run, self.plan.config, self.ledger.view(), resumed)
            stopped = self._generations(executor)
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            executor.close()
            self._note_wall()
        return self._outcome(stopped)

    def _generations(self, executor: Executor) -> Stopped:
        stopped = str(self.ledger.notes.get("stopped", ""))
        generation = 0
        while not stopped:
            view = self.ledger.view()
            begun = bool(view.generation(generation))
            reason = None if begun else self._why_stop(view, generation)
            jobs = () if reason else self._jobs(view, generation)
            if not jobs:
                stopped = reason or "exhausted"
                self.ledger.note("stopped", stopped)
                break
            self._perform(executor, generation, jobs)
            generation += 1
        self._final(executor)
        return stopped  # pyright: ignore[reportReturnType]

    def _jobs(self, view: LedgerView, generation: int) -> Sequence[Job]:
        return (seed_job(self.plan),) if generation == 0 else generation_jobs(self.plan, view, generation)

    def _why_stop(self, view: LedgerView, generation: int) -> Stopped | None:
        """Whether `generation` must not begin any more."""
        config = self.plan.config
        if config.generations is not None and generation > config.generations:
            return "generations"
        if config.budget is not None and generation > 0:
            left = config.budget * (1 - config.final_share) - self._wall()
            if left < self._seconds_for_generation(view, generation):
                return "budget"
        return None

    def _seconds_for_generation(self, view: LedgerView, generation: int) -> float:
        """An estimate from the last generation's trials: all competitors of one generation cost the same."""
        last = [record for record in view.complete if record.job.generation == generation - 1]
        each = max((sum(_working(record.result.seconds)) for record in last if record.result), default=0.0)
        width = min(self.plan.config.workers, self.plan.config.children + 1)
        return each * -(-(self.plan.config.children + 1) // width)

    def _perform(self, executor: Executor, generation: int, jobs: Sequence[Job]) -> None:
        """Have every job performed that isn't told yet."""
        known = {record.job.key: record for record in self.ledger.view().trials}
        waiting: dict[int, Job] = {}
        todo = [job for job in jobs if job.key not in known or known[job.key].state == "running"]
        if not todo:
            return
        self.watcher.generation_started(generation, todo)
        for job in todo:
            record = known.get(job.key)
            number, asked = (record.number, record.job) if record else (self.ledger.ask(job), job)
            waiting[number] = asked
            executor.submit(number, asked)
        while waiting:
            for event in executor.poll(0.5):
                if isinstance(event, Progressed):
                    if event.number in waiting:
                        self.watcher.progress(waiting[event.number].key, event.step, event.steps, event.loss)
                elif event.number in waiting:
                    self._tell(event)
                    del waiting[event.number]
        view = self.ledger.view()
        if jobs[0].kind != "final" and view.complete:
            self.watcher.generation_ended(generation, self.plan.policy.incumbent(view))
        if not view.complete:
            reason = next((r.reason for r in view.trials if r.reason), "no reason is known")
            raise NasError(f"search: training the seed network failed: {reason}")

    def _tell(self, event: Done) -> None:
        if event.result is not None:
            self.ledger.tell(event.number, event.result)
        else:
            self.ledger.fail(event.number, event.reason or "it ended without a result")
        self._note_wall()
        record = next(r for r in self.ledger.view().trials if r.number == event.number)
        self.watcher.trial_told(record)

    def _final(self, executor: Executor) -> None:
        """Train the best network on and read the test split, once."""
        view = self.ledger.view()
        asked = [record.job for record in view.trials if record.job.kind == "final"]
        job = asked[0] if asked else final_job(self.plan, view, self._final_steps(view))
        self._perform(executor, job.generation, (job,))

    def _final_steps(self, view: LedgerView) -> int:
        config = self.plan.config
        share = config.final_share / (1 - config.final_share)
        if config.budget is None:
            return round(share * lineage_steps(self.plan, view))
        best = self.plan.policy.incumbent(view)
        assert best.result is not None
        pace = best.result.seconds["train"] / max(1, best.job.steps)
        left = config.budget - self._wall() - 2 * best.result.seconds["evaluate"] - 1.0
        return max(0, int(0.95 * left / pace)) if config.final_share else 0

    def _wall(self) -> float:
        return self._before + time.monotonic() - self._began

    def _note_wall(self) -> None:
        self.ledger.note("wall", round(self._wall(), 3))

    def _outcome(self, stopped: Stopped) -> Outcome:
        view = self.ledger.view()
        if not view.complete:
            raise NasError(f"search: stopped before the first trial ended; go on with: nas resume {self.run}")
        final = view.final
        test = None
        if final is not None and final.result is not None:
            test = Scores(final.result.scores["test_accuracy"], final.result.scores["test_loss"])
        outcome = Outcome(
            run=self.run,
            view=view,
            best=final or self.plan.policy.incumbent(view),
            test=test,
            seconds=self._wall(),
            overhead=overhead(view, self._wall()),
            stopped=stopped,
        )
        self.watcher.run_finished(outcome)
        return outcome


def overhead(view: LedgerView, wall: float) -> float:
    """The share of `wall` seconds in which no child was inside training or evaluation."""
    spans = sorted(
        (record.result.seconds["busy_from"], record.result.seconds["busy_to"])
        for record in view.complete
        if record.result is not None and "busy_from" in record.result.seconds
    )
    busy, reached = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return max(0.0, 1 - busy / wall) if wall > 0 else 0.0


def _working(seconds: Any) -> list[float]:
    return [value for name, value in seconds.items() if not name.startswith("busy_")]
