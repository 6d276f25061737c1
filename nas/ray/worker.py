"""What runs in a Ray worker: one job for each trial of Tune, in a process that is used again for the next."""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

import ray
from ray.tune import report

from nas.config import RunConfig
from nas.data import SearchData
from nas.execute import Done, Progressed
from nas.execute.task import attempt
from nas.execute.worker import data_of, give_back_memory, site_of
from nas.ray.carry import Luggage, Storage
from nas.ray.ticket import Delivered, Order, Started, Ticket

MESSAGE = "message"  # the key of what we report
PROGRESS_SECONDS = 1.0  # a report holds the training up until the driver has taken it


def train_child(config: dict[str, Any]) -> None:
    """The function that Tune calls: perform the job of the ticket in `config`, if it has one, and report what came of
    it. The first in a process takes seconds to import and to read the data.
    """
    ticket: Ticket = config["ticket"]
    assert ticket.order is not None
    settings, data = _settled(ticket.order)
    if ticket.job is None:
        return
    with suppress(OSError):  # Tune leads each trial into a folder of its own
        os.chdir(ticket.order.folder)
    _say(Started(ticket.number, ray.get_runtime_context().get_node_id()))
    storage = Storage(ticket.order.storage, ticket.order.run) if ticket.order.storage else None
    luggage = Luggage({digest: ray.get(sent) for digest, sent in ticket.networks.items()}, storage)
    if isinstance(data, str):
        done = Done(ticket.number, None, data, fault=True)
    else:
        site = site_of(settings, luggage)
        done = attempt(ticket.number, ticket.job, site, data, _progress(ticket.number))
        give_back_memory()
    _say(Delivered(done, luggage.made if done.result is not None else {}))


@lru_cache(maxsize=1)
def _settled(order: Order) -> tuple[RunConfig, SearchData | str]:
    """The run's configuration and data, read once in a process."""
    sys.path += [entry for entry in order.path if entry not in sys.path]
    with suppress(OSError):
        os.chdir(order.folder)
    config = RunConfig.model_validate_json(order.config)
    data = data_of(config, order.data_digest)
    gc.collect()
    gc.freeze()  # all that was imported stays: a collection after each child would look through it for 0.1 to 0.2 s
    return config, data


def _progress(number: int) -> Any:
    last = time.monotonic()

    def tell(step: int, steps: int, loss: float) -> None:
        nonlocal last
        if step < steps and time.monotonic() - last >= PROGRESS_SECONDS:
            _say(Progressed(number, step, steps, loss))
            last = time.monotonic()

    return tell


def _say(message: Started | Progressed | Delivered) -> None:
    report({MESSAGE: message})
