"""The messages between the driver and its workers on the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from nas.execute.executor import Done
from nas.ledger import Job

PackedNetwork = tuple[str, bytes]  # a network as `morphs.pack` makes it
STARTUP = -1  # the number of a request that only starts a worker


@dataclass(frozen=True)
class Order:
    """What a worker needs for all its jobs. Hashable, so that a worker sets up only once.

    config: the run's, as JSON. folder, path: the driver's working directory and `sys.path`, for data sets named
    relative to them. storage: where checkpoints are exchanged; None: through Ray's object store. run: the run's name,
    which is its folder in the storage. versions: the driver's, by name, and its settings
    of arithmetic; a worker with others might compute other bits.
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
    """A job in the configuration of a Tune trial. networks: those that the job reads, by digest.

    A request with number STARTUP has no job: its trial ends once the worker has started. Tune stores, copies and prints
    a trial's configuration. So a copy of this is the object itself, and `clear` releases the networks: otherwise each
    parent would stay in the object store for the whole run.
    """

    number: int
    order: Order | None
    job: Job | None
    networks: dict[str, ray.ObjectRef[PackedNetwork]]

    def clear(self) -> None:
        """Release the job and its networks."""
        self.order = self.job = None
        self.networks = {}

    def __deepcopy__(self, memo: Any) -> JobRequest:
        return self

    def __repr__(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class Started:
    """The worker has started and now runs this job, on this node of the cluster."""

    number: int
    node: str


@dataclass(frozen=True)
class Delivered:
    """A job's end, with the networks that it made, by digest, except those already in the storage."""

    done: Done
    packed: dict[str, PackedNetwork]
