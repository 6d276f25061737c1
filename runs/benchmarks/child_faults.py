"""Children that diverge, throw, hang or are killed for memory, a fifth of them each: does each fail alone?

A real search with the local executor and two workers. In the workers, which are forked from this process, one child
in five is as it should be; of the others

    diverge    trains with a learning rate of 1e30
    throw      raises an exception
    hang       sleeps for ever
    memory     is killed with −9, as the kernel does it for want of memory; in every second generation it asks for
               more memory than its process may have instead

Each must end as failed with its own reason; every other trial must end as in the same search without faults, which is
compared where both have the same parent (the first generation); and the search must come to its end.

    python runs/benchmarks/child_faults.py [--generations 4] [--children 10] [--timeout 20] [--quick]
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _cases import in_memory
from _common import Figure, figure, finish
from _small_run import quiet

from nas.config import check_config
from nas.events import Silent
from nas.execute import make_executor, task
from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.view import decided
from nas.nursery import Nursery
from nas.run import search

KINDS = ("sound", "diverge", "throw", "hang", "memory")
REASONS: Mapping[str, tuple[str, ...]] = {
    "diverge": ("the loss became", "is not finite"),
    "throw": ("it raised ValueError: injected",),
    "hang": ("it took longer than",),
    "memory": ("its worker process died (SIGKILL; most likely for want of memory)", "it ran out of memory"),
}
_perform = task.perform


def main() -> None:
    """Search with and without faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--children", type=int, default=10)
    parser.add_argument(
        "--timeout", type=float, default=20.0, help="--child-timeout of the search, in seconds"
    )
    parser.add_argument("--quick", action="store_true", help="one generation of five children")
    arguments = parser.parse_args()
    generations, children = (1, 5) if arguments.quick else (arguments.generations, arguments.children)
    finish(__file__, inject(generations, children, arguments.timeout))


def inject(generations: int, children: int, timeout: float) -> list[Figure]:
    """The figures of one search with faults and one without."""
    quiet()
    with in_memory("children-") as folder:
        expected = searched(folder / "sound", 1, children, timeout)
        task.perform = faulty
        begin = time.perf_counter()
        try:
            found = searched(folder / "faulty", generations, children, timeout)
        finally:
            task.perform = _perform
        seconds = time.perf_counter() - begin
    told = [record for record in found.trials if record.job.kind == "child"]
    counts = Counter(fault_of(record.job) for record in told)
    odd = [record for record in told if not as_it_should(record)]
    for record in odd[:5]:
        print(f"  {record.key} ({fault_of(record.job)}): {record.state}, {record.reason}")
    first = {
        record.key: decided(record) for record in expected.generation(1) if fault_of(record.job) == "sound"
    }
    other = [key for key, value in first.items() if decided(found.trial(key)) != value]
    return [
        figure("children", len(told), "", f">= {generations * children}"),
        *(figure(f"of them {kind}", counts[kind], "", "> 0") for kind in KINDS),
        figure("children that ended otherwise than they should", len(odd), "", "<= 0"),
        figure("other trials that ended otherwise than without faults", len(other), "", "<= 0"),
        figure("the search came to its end", int(found.final is not None), "", ">= 1"),
        figure("wall time of the search with faults", seconds, "s", None),
    ]


def searched(run: Path, generations: int, children: int, timeout: float) -> LedgerView:
    """A search with two workers forked from this process."""
    config = check_config(
        {
            "space": "digits", "data": "digits", "seed": 3, "generations": generations, "children": children,
            "moves_per_child": 1, "epochs": 0.1, "workers": 2, "threads": 1, "child_timeout": timeout,
            "train": {"lr": 0.05, "batch_size": 64},
        }
    )  # fmt: skip
    executor = partial(make_executor, nursery=Nursery.fork_off())
    return search(config, run, Silent(), "", executor).view


def fault_of(job: Job) -> str:
    """The fault that a job is to have: by its slot, so that each befalls a fifth of the children."""
    return KINDS[job.slot % len(KINDS)] if job.kind == "child" else "sound"


def faulty(job: Job, site: task.Worksite, data: Any, progress: task.Progress) -> Result:
    """`perform`, with the job's fault. Runs in a worker."""
    fault = fault_of(job)
    if fault == "diverge":
        return _perform(job, replace(site, config=replace(site.config, lr=1e30)), data, progress)
    if fault == "throw":
        raise ValueError("injected")
    if fault == "hang":
        time.sleep(1e6)
    if fault == "memory" and job.generation % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "memory":
        former = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2**34, former[1]))
        try:
            torch.ones(2**36)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, former)
    return _perform(job, site, data, progress)


def as_it_should(record: TrialRecord) -> bool:
    """Whether a child ended as its fault has it."""
    fault = fault_of(record.job)
    if fault == "sound":
        return record.state == "complete"
    return record.state == "failed" and any(text in str(record.reason) for text in REASONS[fault])


if __name__ == "__main__":
    main()
