"""The code in a Ray worker: one job for each trial of Tune, in a process that is reused for the next."""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import ray
from ray.exceptions import RayError
from ray.tune import report

from nas.base.arithmetic import environment
from nas.base.errors import UserError
from nas.base.text import one_line
from nas.config.run_config import RunConfig
from nas.data import SearchData
from nas.execute.executor import Done, Progressed
from nas.execute.ray.messages import Delivered, JobRequest, Order, Started
from nas.execute.ray.transfer import JobCheckpoints, Storage
from nas.execute.task import attempt
from nas.execute.worker import bounded_caches, computes, data_of, release_memory, site_of
from nas.ledger import current_versions

MESSAGE = "message"  # the key of the worker's messages in Tune's results
PROGRESS_SECONDS = 1.0  # a report blocks the training until the driver has received it


def train_child(config: dict[str, Any]) -> None:
    """Perform the job of the request in `config`, if it has one, and report the result. Tune calls this function.

    The first call in a process takes seconds to import and to read the data.
    """
    request: JobRequest = config["request"]
    assert request.order is not None
    settings, data = _set_up(request.order)
    if request.job is None:
        return
    with suppress(OSError):  # Tune changes the folder for each trial
        os.chdir(request.order.folder)
    _send(Started(request.number, ray.get_runtime_context().get_node_id()))
    checkpoints = _checkpoints_for(request, request.order)
    if isinstance(data, str) or isinstance(checkpoints, str):
        fault = data if isinstance(data, str) else str(checkpoints)
        _send(Delivered(Done(request.number, None, fault, fault=True), {}))
        return
    site = site_of(settings, checkpoints)
    done = attempt(request.number, request.job, site, data, _progress(request.number))
    release_memory()
    _send(Delivered(done, checkpoints.made if done.result is not None else {}))
    if not computes(settings.device):
        os._exit(1)  # Tune starts a new process in its place


def _checkpoints_for(request: JobRequest, order: Order) -> JobCheckpoints | str:
    """Return the checkpoints of a job, or why they did not arrive, which is not the job's fault."""
    try:
        storage = Storage(order.storage, order.run) if order.storage else None
        return JobCheckpoints({digest: ray.get(sent) for digest, sent in request.networks.items()}, storage)
    except (UserError, RayError, ImportError) as error:
        return f"ray: a child's checkpoints did not reach its node ({one_line(str(error))[:300]}); fix that"


@lru_cache(maxsize=1)
def _set_up(order: Order) -> tuple[RunConfig, SearchData | str]:
    """Read the run's configuration and data, once in a process; instead of the data, an error message."""
    sys.path += [entry for entry in order.path if entry not in sys.path]
    with suppress(OSError):
        os.chdir(order.folder)
    bounded_caches()
    config = RunConfig.model_validate(json.loads(order.config))
    data = _other_versions(order.versions) or data_of(config, order.data_digest)
    gc.collect()
    gc.freeze()  # imported modules stay: each collection after a child would scan them for 0.1 to 0.2 s
    return config, data


def _other_versions(versions: Iterable[tuple[str, str]]) -> str | None:
    """Describe how this node's versions and settings of arithmetic differ from the driver's, which could change the
    bits; None if they don't.
    """
    here = {**current_versions(), **environment()}
    other = [
        f"{name} {here.get(name)} where the driver has {known}"
        for name, known in versions
        if here.get(name) != known
    ]
    node = platform.node()
    return f"ray: node {node} has {', '.join(other)}; make them the same there" if other else None


def _progress(number: int) -> Any:
    last = time.monotonic()

    def tell(step: int, steps: int, loss: float) -> None:
        nonlocal last
        if step < steps and time.monotonic() - last >= PROGRESS_SECONDS:
            _send(Progressed(number, step, steps, loss))
            last = time.monotonic()

    return tell


def _send(message: Started | Progressed | Delivered) -> None:
    report({MESSAGE: message})
