"""Kill a node of a Ray cluster in the middle of a search: do its children run again elsewhere, to the same end?

A cluster of three nodes with one processor each, all on this machine (`ray.cluster_utils.Cluster`); one search on it
with three workers. As soon as a child trains on one of the two nodes that the driver is not on, that node's daemon is
killed with kill −9, and its workers die with it. The same search with local workers and nothing killed is what the
outcome is compared with.

Ray is set as it is by default: it asks nodes for a sign of life every three seconds, so that a worker's death is told
long before its node's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.figures import Figure
from ray.cluster_utils import Cluster

from nas.config.run_config import RunConfig
from nas.execute.executor import Done, Executor, Progressed
from nas.execute.local import LocalExecutor
from nas.execute.ray.executor import RayExecutor
from nas.ledger import Job, TrialRecord
from nas.ledger.view import decided
from nas.registry.configure import make_config
from nas.run.events import Silent
from nas.run.lifecycle import search

WORKERS = 3


def compared(short: bool, seed: int = 0) -> list[Figure]:
    """Run both searches and compare. short: one generation of shorter children."""
    size: dict[str, Any] = {
        "seed": seed, "generations": 1 if short else 3, "children": 2, "final_share": 0.1,
        "epochs": 40 if short else 60, "threads": 1, "workers": WORKERS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="nas-death-") as folder:
        config = make_config("digits", {**size, "workers": 1})
        whole = search(config, Path(folder) / "local", Silent(), "", LocalExecutor).view
        killer = on_cluster(size, Path(folder) / "ray")
    known = {record.key: decided(record) for record in killer.view.trials}
    lost = sum(known.get(key) != value for key, value in killer.told.items())
    print(f"undisturbed, local: {len(whole.complete)} trials, digest {whole.digest[:16]}")
    print(f"with a node killed: {len(killer.view.complete)} trials, digest {killer.view.digest[:16]}")
    same = int(killer.view.digest == whole.digest)
    return [
        Figure("nodes killed", int(killer.at is not None), "", ">= 1"),
        Figure("jobs run again", killer.executor.again, "", ">= 1"),
        Figure("trials failed", sum(r.state == "failed" for r in killer.view.trials), "", "<= 0"),
        Figure("told results lost", lost, "trials", "<= 0"),
        Figure("from the kill to the job's second start", killer.restarted, "s"),
        Figure("digest equals the undisturbed run's", same, "", ">= 1"),
    ]


@dataclass
class Killer(Silent):
    """Kills the first node, other than the driver's, on which a child trains: it watches as an executor does."""

    cluster: Any
    told: dict[str, Any] = field(default_factory=dict)
    at: float | None = None
    victim: str | None = None
    restarted: float = -1.0
    view: Any = None
    executor: RayExecutor = field(init=False)

    def make(self, run: Path, config: RunConfig, digest: str) -> Executor:
        """An executor factory."""
        self.executor = RayExecutor(run, config, digest)
        return self

    def submit(self, number: int, job: Job) -> None:
        """Hand the job on."""
        self.executor.submit(number, job)

    def poll(self, timeout: float) -> Iterator[Progressed | Done]:
        """Hand on what happened, then look who is at work where."""
        yield from self.executor.poll(timeout)
        workers = {node.node_id: node for node in self.cluster.worker_nodes}
        for flight in self.executor.running:
            if self.at is None and flight.node in workers:
                self.at, self.victim = time.perf_counter(), flight.job.key
                self.cluster.remove_node(workers[flight.node], allow_graceful=False)
                print(f"killed the node that trains {self.victim}", flush=True)
            elif (
                self.at is not None
                and self.restarted < 0
                and flight.job.key == self.victim
                and flight.starts > 1
            ):
                self.restarted = time.perf_counter() - self.at

    def close(self) -> None:
        """Hand it on."""
        self.executor.close()

    def on_trial_end(self, record: TrialRecord) -> None:
        """Keep what was acknowledged."""
        self.told[record.key] = decided(record)


def on_cluster(size: dict[str, Any], run: Path) -> Killer:
    """The search on a cluster of three, one of which dies."""
    # Ray's workers are nice (15): anything else on the machine would starve them.
    head: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
    head["_system_config"] = {"worker_niceness": 0}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(WORKERS - 1):
            cluster.add_node(num_cpus=1, object_store_memory=2**27)
        killer = Killer(cluster)
        config = make_config("digits", {**size, "executor": "ray", "address": cluster.address})
        killer.view = search(config, run, killer, "", killer.make).view
        return killer
    finally:
        cluster.shutdown()
