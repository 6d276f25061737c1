"""Children that diverge, throw, hang or are killed for memory, a fifth of them each: does each fail alone?

A real search with the local executor and two workers. In the workers, which are forked from this process, one child
in five (with a GPU, in six) is as it should be; of the others

    diverge    trains with a learning rate of 1e30
    throw      raises an exception
    hang       sleeps for ever
    memory     is killed with −9, as the kernel does when it runs out of memory; every second one asks for more
               memory than its process may have instead, or than the GPU has
    break      (on a GPU) trips an assertion on the GPU, after which its process can use that no more

Each must end as failed with its own reason; every other trial must end as in the same search without faults, which is
compared where both have the same parent (the first generation); and the search must come to its end.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from faults.cases import in_memory
from faults.figures import Figure
from faults.small_run import quiet

from nas.execute import task
from nas.execute.fork_server import ForkServer
from nas.execute.make_executor import make_executor
from nas.ledger import Job, LedgerView, Result, TrialRecord
from nas.ledger.view import decided
from nas.registry.configure import check_config
from nas.run.events import Silent
from nas.run.lifecycle import search

KINDS = ("sound", "diverge", "throw", "hang", "memory")
GPU_KINDS = (*KINDS, "break")
REASONS: Mapping[str, tuple[str, ...]] = {
    "diverge": ("the loss became", "is not finite"),
    "throw": ("it raised ValueError: injected",),
    "hang": ("it took longer than",),
    "memory": ("its worker process died (SIGKILL", "it ran out of memory"),
    "break": ("it raised AcceleratorError: CUDA error: device-side assert triggered",),
}
_perform = task.perform


def inject(generations: int, children: int, timeout: float, device: str = "cpu") -> list[Figure]:
    """The figures of one search with faults and one without."""
    quiet()
    fault_of = partial(fault, device=device)
    # Both are forked before either search: on a GPU, workers can't come of a process that has used it.
    sound = ForkServer.fork_off()
    task.perform = faulty
    try:
        struck = ForkServer.fork_off()
    finally:
        task.perform = _perform
    with in_memory("children-") as folder, closing(sound), closing(struck):
        expected = searched(folder / "sound", 1, children, timeout, device, sound)
        begin = time.perf_counter()
        found = searched(folder / "faulty", generations, children, timeout, device, struck)
        seconds = time.perf_counter() - begin
    told = [record for record in found.trials if record.job.kind == "child"]
    counts = Counter(fault_of(record.job) for record in told)
    odd = [record for record in told if not as_it_should(record, fault_of(record.job))]
    for record in odd[:5]:
        print(f"  {record.key} ({fault_of(record.job)}): {record.state}, {record.reason}")
    first = {
        record.key: decided(record) for record in expected.generation(1) if fault_of(record.job) == "sound"
    }
    other = [key for key, value in first.items() if decided(found.trial(key)) != value]
    return [
        Figure("children", len(told), "", f">= {generations * children}"),
        *(Figure(f"of them {kind}", counts[kind], "", "> 0") for kind in kinds(device)),
        Figure("children that ended otherwise than they should", len(odd), "", "<= 0"),
        Figure("other trials that ended otherwise than without faults", len(other), "", "<= 0"),
        Figure("the search came to its end", int(found.final is not None), "", ">= 1"),
        Figure("wall time of the search with faults", seconds, "s", None),
    ]


def searched(
    run: Path, generations: int, children: int, timeout: float, device: str, server: ForkServer
) -> LedgerView:
    """A search with two workers forked from the fork server."""
    config = check_config(
        {
            "space": "digits", "data": "digits", "seed": 3, "generations": generations, "children": children,
            "moves_per_child": 1, "epochs": 0.1, "workers": 2, "threads": 1, "child_timeout": timeout, "device": device,
            "train": {"lr": 0.05, "batch_size": 64},
        }
    )  # fmt: skip
    return search(config, run, Silent(), "", partial(make_executor, processes=server)).view


def kinds(device: str) -> tuple[str, ...]:
    """The faults that there are on a device."""
    return GPU_KINDS if device == "cuda" else KINDS


def fault(job: Job, device: str) -> str:
    """The fault that a job is to have: by its slot, so that each befalls as many children."""
    return kinds(device)[job.slot % len(kinds(device))] if job.kind == "child" else "sound"


def faulty(job: Job, site: task.Worksite, data: Any, progress: task.Progress) -> Result:
    """`perform`, with the job's fault. Runs in a worker."""
    match fault(job, site.device):
        case "diverge":
            return _perform(job, replace(site, config=replace(site.config, lr=1e30)), data, progress)
        case "throw":
            raise ValueError("injected")
        case "hang":
            time.sleep(1e6)
        case "memory" if (job.generation + job.slot) % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            want_memory(site.device)
        case "break":
            torch.ones(4, device=site.device)[torch.tensor([9], device=site.device)].sum().item()
        case _:
            pass
    return _perform(job, site, data, progress)


def want_memory(device: str) -> None:
    """Ask for more than there may be."""
    if device == "cuda":
        torch.ones(2**42, device=device)
        return
    former = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**34, former[1]))
    try:
        torch.ones(2**36)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


def as_it_should(record: TrialRecord, fault: str) -> bool:
    """Whether a child ended as its fault has it."""
    if fault == "sound":
        return record.state == "complete"
    return record.state == "failed" and any(text in str(record.reason) for text in REASONS[fault])
