"""What tests of the engine share: a small configuration, an executor in this process, a watcher that remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import morphs
from nas.config.run_config import RunConfig
from nas.data import load_search_data, load_test_split
from nas.execute.executor import Done, Progressed
from nas.execute.task import TaskContext, attempt
from nas.ledger import Job, LedgerView, Result, Store, TrialRecord
from nas.ledger.types import State
from nas.ledger.view import decided
from nas.registry.configure import check_config
from nas.run.events import Outcome, Silent

TINY: dict[str, Any] = {
    "space": "digits",
    "data": "digits",
    "val_fraction": 0.1,
    "seed": 3,
    "generations": 2,
    "children": 2,
    "moves_per_child": 2,
    "epochs": 0.1,
    "final_share": 0.25,
    "threads": 1,
    "train": {"lr": 0.05, "batch_size": 64},
}


def tiny(**changes: Any) -> RunConfig:
    """A run of seven trials with a few steps each."""
    return check_config({**TINY, **changes})


class Inline:
    """An executor that performs jobs in this process when it is polled. fail: turns jobs into failures."""

    def __init__(
        self, run: Path, config: RunConfig, data_digest: str, fail: Callable[[Job], Done | None] | None = None
    ) -> None:
        self.queue: deque[tuple[int, Job]] = deque()
        self.fail = fail
        root = Path(config.data_root) if config.data_root else None
        self.data = load_search_data(config.data, root, config.seed, config.val_fraction, task=config.task)
        assert self.data.digest == data_digest
        self.site = TaskContext(
            Store(run / "checkpoints"),
            config.train,
            "cpu",
            config.threads,
            lambda: load_test_split(config.data, root, config.seed, config.task, config.val_fraction),
            config.moves,
        )

    def submit(self, number: int, job: Job) -> None:
        self.queue.append((number, job))

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        number, job = self.queue.popleft()
        failure = self.fail(job) if self.fail else None
        if failure is not None:
            yield Done(number, None, failure.reason, failure.fault)
            return
        told: list[Progressed] = []
        done = attempt(
            number, job, self.site, self.data, lambda *facts: told.append(Progressed(number, *facts))
        )
        yield from told
        yield done

    def close(self) -> None:
        self.queue.clear()


class Shuffled(Inline):
    """Performs what it was given in an order of its own, as workers of different speed would."""

    def __init__(self, *facts: Any, order: int) -> None:
        super().__init__(*facts)
        self.draw = Random(order)
        self.most = 0

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        self.most = max(self.most, len(self.queue))
        self.queue.rotate(self.draw.randrange(len(self.queue)))
        yield from super().poll(timeout)


def failing(which: Callable[[Job], bool], reason: str = "it burst", fault: bool = False) -> Any:
    """A factory of executors in which some jobs fail."""

    def factory(run: Path, config: RunConfig, digest: str) -> Inline:
        return Inline(run, config, digest, lambda job: Done(0, None, reason, fault) if which(job) else None)

    return factory


class Recorder(Silent):
    """Remembers what it was told; presses Ctrl-C after `stop_after` trials."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.stop_after = stop_after

    @property
    def told(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "told"]

    def on_run_start(self, run: Path, config: RunConfig, view: LedgerView, resumed: bool) -> None:
        self.events.append(("opened", resumed, len(view.complete)))

    def on_generation_start(self, generation: int, jobs: Sequence[Job]) -> None:
        self.events.append(("started", generation, [job.key for job in jobs]))
        if self.stop_after == 0:
            raise KeyboardInterrupt

    def on_step(self, key: str, step: int, steps: int, loss: float) -> None:
        self.events.append(("progress", key, step, steps))

    def on_trial_end(self, record: TrialRecord) -> None:
        self.events.append(("told", record.key))
        if self.stop_after is not None and len(self.told) == self.stop_after:
            raise KeyboardInterrupt

    def on_generation_end(self, generation: int, best: TrialRecord) -> None:
        self.events.append(("ended", generation, best.key))

    def on_run_end(self, outcome: Outcome) -> None:
        self.events.append(("finished", outcome.stopped))


def decisions(view: LedgerView) -> list[dict[str, Any]]:
    """What the search decided, the final training left out."""
    return [decided(record) for record in view.trials if record.job.kind != "final"]


def record_of(
    job: Job, accuracy: float | None, loss: float = 1.0, number: int = 0, seconds: float = 0.0
) -> TrialRecord:
    """A trial that came to `accuracy`; None: it failed."""
    if accuracy is None:
        return TrialRecord(job, State.FAILED, None, "it burst", number, 0.0, 1.0)
    graph = morphs.graph_from_json(job.graph)
    cost = morphs.cost(graph)
    scores = {"val_accuracy": accuracy, "val_loss": loss}
    result = Result(graph.fingerprint, "0" * 64, scores, cost.params, cost.macs, seconds={"train": seconds})
    return TrialRecord(job, State.COMPLETE, result, None, number, 0.0, 1.0)


class Given:
    """The data of `engine_support:given`: what is noise to one test is the content of another."""

    seed = 0
    calls = 0


def given() -> Any:
    """Sixty noisy images of two classes, as a user's function would return them."""
    Given.calls += 1
    draw = np.random.default_rng(Given.seed)
    labels = np.arange(60) % 2
    images = (draw.integers(0, 100, (60, 8, 8)) + 100 * labels[:, None, None]).astype(np.uint8)
    return (images, labels), (images[:20], labels[:20])
