"""What travels between the driver and its workers on the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from nas.execute.executor import Done
from nas.ledger import Job

PackedNetwork = tuple[str, bytes]  # a network as `morphs.pack` makes it
STARTUP = -1  # the number of what is no job but a worker's start


@dataclass(frozen=True)
class Order:
    """What a worker needs to know for all its jobs. Hashable, so that a worker settles once.

    config: the run's, as JSON. folder, path: the driver's working directory and `sys.path`, for data sets that
    are named relative to them. storage: where checkpoints are handed over; None: through Ray's object store.
    run: the run's name, by which it has its own folder there. versions: the driver's, by name: with others a worker
    might come to other bits.
    """

    config: str
    data_digest: str
    folder: str
    path: tuple[str, ...]
    storage: str | None
    run: str | None
    versions: tuple[tuple[str, str], ...]


@dataclass(eq=False)
class JobRequest:
    """A job's way through Tune, as the configuration of a trial. networks: those that the job reads, by digest.

    One numbered STARTUP is no job's: its trial ends when the worker is up. Tune keeps, copies and prints what a
    trial's configuration holds. So this copies to itself, and `spend` lets go of the networks: otherwise each parent
    would stay in the object store as long as the run.
    """

    number: int
    order: Order | None
    job: Job | None
    networks: dict[str, ray.ObjectRef[PackedNetwork]]

    def spend(self) -> None:
        """Hold nothing any more."""
        self.order = self.job = None
        self.networks = {}

    def __deepcopy__(self, memo: Any) -> JobRequest:
        return self

    def __repr__(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class Started:
    """The worker's start-up is over and it works on this job now, on this node of the cluster."""

    number: int
    node: str


@dataclass(frozen=True)
class Delivered:
    """A job's end, with the networks that it made, by digest; those that lie in the storage already are left out."""

    done: Done
    packed: dict[str, PackedNetwork]
