"""A run of a few trials on the real ledger, store and database, whose candidates are not trained: what the scripts
that look for faults drive, since training adds nothing to what is on the disk.

`drive` is a driver in small: it makes the run or opens it, does what is left, and writes down outside the run what it
may claim from then on. The same plan gives the same digest, however often it was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import morphs
from nas.base.errors import RunError
from nas.ledger import Job, Ledger, LedgerView, Result
from nas.ledger.files import atomic_write
from nas.ledger.view import decided

RUN, CLAIMS = "run", "claims"  # the folder of the run, and beside it the log of what was claimed
CONFIG = {"space": "small", "seed": 0}
REPORT = "report.html"
_GRAPH = "x = input(size=[1, 4, 4])\nf = flatten(x)\nc = linear(f, features=3)\no = output(c)"


def graph() -> morphs.ArchGraph:
    """The graph of every candidate."""
    return morphs.parse_graph(_GRAPH)


def network(seed: int) -> morphs.Network:
    """The candidate of that seed."""
    return morphs.init(graph(), seed=seed)


def jobs(trials: int) -> Iterator[Job]:
    """The plan: a seed, two children a generation, and a final trial."""
    for place in range(trials):
        generation, slot = (place + 1) // 2, (place + 1) % 2 if place else 0
        kind = "seed" if place == 0 else "final" if place == trials - 1 else "child"
        parent = None if place == 0 else "0.0"
        yield Job(kind, generation, slot, parent, "", place, 10, graph().to_json(), memo={"place": place})


def drive(
    root: Path, trials: int, stop_after: int | None = None, claim: Callable[[str], None] | None = None
) -> LedgerView:
    """Do what is left of the run in `root`, every fourth trial failing; what the ledger then holds.

    stop_after: leave after so many trials, with the next one asked and its checkpoint written but nothing told.
    """
    say = claim or (lambda line: _claim(root / CLAIMS, line))
    with opened(root / RUN) as ledger:
        say("opened")
        ledger.note("select", "accuracy")
        left = {job.key: (number, job) for number, job in ledger.interrupted()}
        known = {record.key for record in ledger.view().trials} - left.keys()
        for place, job in enumerate(jobs(trials)):
            if job.key in known:
                continue
            number = left[job.key][0] if job.key in left else ledger.ask(job)
            weights = ledger.store.put(network(job.seed))
            if place == stop_after:
                break
            if place % 4 == 3:
                ledger.fail(number, f"loss is nan in {job.key}")
            else:
                ledger.tell(number, result_of(job, weights))
            say(job.key)
            ledger.note("wall", place)
        atomic_write(root / RUN / REPORT, f"<p>{ledger.view().digest}</p>".encode())
        return ledger.view()


def opened(run: Path) -> Ledger:
    """The ledger of the run: opened where there is one, else made, as `nas resume` and `nas search` do."""
    return Ledger.open(run) if (run / "ledger.db").exists() else Ledger.create(run, CONFIG)


def result_of(job: Job, weights: str) -> Result:
    """What comes of a job."""
    scores = {"val_accuracy": 0.5 + job.seed / 100, "val_loss": 1.0}
    return Result(graph().fingerprint, weights, scores, params=51, macs=48, seconds={"train": 0.5})


def lost(view: LedgerView, claimed: set[str], expected: LedgerView) -> list[str]:
    """The claimed trials that the record doesn't hold as they were told."""
    there = {record.key: decided(record) for record in view.trials if record.state != "running"}
    whole = {record.key: decided(record) for record in expected.trials}
    return sorted(key for key in claimed if there.get(key) != whole[key])


def claims(root: Path) -> set[str]:
    """What was claimed in whole lines."""
    try:
        lines = (root / CLAIMS).read_text().split("\n")[:-1]
    except FileNotFoundError:
        return set()
    return set(lines)


def _claim(log: Path, line: str) -> None:
    """Write down outside the run, durably, what may be relied on from now on."""
    with log.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def checkpoints_lost(run: Path, view: LedgerView, keys: set[str]) -> list[str]:
    """The trials among `keys` whose checkpoint isn't whole."""
    from nas.ledger import Store

    store, gone = Store(run / "checkpoints"), list[str]()
    for record in view.trials:
        if record.key in keys and record.result is not None:
            try:
                store.verify(record.result.weights)
            except RunError:
                gone.append(record.key)
    return gone


def quiet() -> None:
    """One thread, so that a fork of this process is whole."""
    torch.set_num_threads(1)
