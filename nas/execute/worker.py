"""A worker process: performs jobs one after the other, and ends at once when its driver ends.

It is forked from the fork server, which has imported everything and holds the data unless that needs user code; where
forking is not safe, it is a new process. Its standard streams are not the driver's: output of the worker or of a user's
data set goes to the run's log.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import linecache
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
import torch.fx.graph_module as fx_modules

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.data import ImageSplit, SearchData, load_search_data, load_test_split, runs_code
from nas.data.hashes import NONE, read_known
from nas.execute.executor import Done, Progressed
from nas.execute.task import Checkpoints, TaskContext, attempt
from nas.execute.worker_messages import Start
from nas.ledger import Job, Store

PRIMITIVES = 200  # enough for the layers of one large network, forward and backward


@dataclass(frozen=True)
class Began:
    """The worker has started up and works on this job now."""

    number: int


def data_key(config: RunConfig) -> tuple[object, ...]:
    """The settings that determine a configuration's data."""
    return config.data, config.data_root, config.seed, config.val_fraction, config.augment


def data_for(config: RunConfig, run: Path | None = None) -> SearchData | str | None:
    """The data set for workers, or why it can't be loaded; None if each worker must load it itself.

    run: the folder of the run, once it exists: it may have hashes of the data's files.
    """
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    return None if runs_code(config.data) else _load(config, run)


def serve_driver(pipe: Connection[Any, Any], order: Start, held: SearchData | str | None) -> None:
    """Serve the driver at the other end of the pipe until the driver closes it.

    held: the data, or why it can't be loaded; None if it is not loaded yet.
    """
    faulthandler.enable(2)  # the log, whatever sys.stderr is
    bounded_caches()
    inbox: SimpleQueue[tuple[int, Job]] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    try:
        _serve(pipe, order, inbox, held)
    except (BrokenPipeError, ConnectionError):
        _leave()  # the driver has ended: the next one will run its jobs again


def _listen(pipe: Connection[Any, Any], inbox: SimpleQueue[tuple[int, Job]]) -> None:
    """Receive jobs. Reading all the time also detects the driver's end in the middle of a training."""
    try:
        while True:
            inbox.put(pipe.recv())
    except (EOFError, OSError):
        _leave()


def _leave() -> None:
    sys.stdout.flush()
    os._exit(0)  # from any thread: whatever matters is already durable


def _serve(
    pipe: Connection[Any, Any],
    order: Start,
    inbox: SimpleQueue[tuple[int, Job]],
    held: SearchData | str | None,
) -> None:
    config = order.config
    site = site_of(config, Store(order.run / "checkpoints"))
    data = data_of(config, order.data_digest, held, order.run)
    while True:
        number, job = inbox.get()
        pipe.send(Began(number))

        def progress(step: int, steps: int, loss: float, number: int = number) -> None:
            pipe.send(Progressed(number, step, steps, loss))

        if isinstance(data, str):
            pipe.send(Done(number, None, data, fault=True))
            continue
        pipe.send(attempt(number, job, site, data, progress))
        release_memory()
        if not computes(config.device):
            return


def release_memory() -> None:
    """Return free memory to the system and to other processes on the GPU, which the C library and torch don't do on
    their own; the next child may need far less.

    A traced module has reference cycles, so its weights stay until a garbage collection. Where the C library is not
    glibc, only the collection is done.
    """
    _forget_sources()
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(RuntimeError):  # if a child has left the device in an error state
        torch.cuda.empty_cache()


def _forget_sources() -> None:
    """Drop the source texts that torch.fx keeps of every module it has made, and the lines kept for tracebacks."""
    for name in [name for name in linecache.cache if name.startswith("<eval_with_key>")]:
        del linecache.cache[name]
    kept: Any = getattr(getattr(fx_modules, "_loader", None), "eval_cache", None)
    if isinstance(kept, dict):
        kept.clear()


def bounded_caches() -> None:
    """Let oneDNN keep the code of the last PRIMITIVES operations, not of the last 1024: every architecture brings new
    ones, and each holds memory. Only for a process that has not computed yet.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))


def computes(device: str) -> bool:
    """Whether this process can still compute on `device`. After some GPU errors it never can again, and the next child
    needs another process.
    """
    try:
        return float(torch.ones(1, device=device)) == 1.0
    except RuntimeError:
        return False


def site_of(config: RunConfig, store: Checkpoints) -> TaskContext:
    """The context that the tasks of a run share in a worker."""

    def load_test() -> ImageSplit:
        return load_test_split(config.data, _root(config), config.seed, config.task, config.val_fraction)

    return TaskContext(store, config.train, config.device, config.threads, load_test, config.moves)


def data_of(
    config: RunConfig, digest: str, held: SearchData | str | None = None, run: Path | None = None
) -> SearchData | str:
    """The data set, or why it can't be used. digest: of the driver's data. held: the data, if it is loaded already.
    run: as in `data_for`.
    """
    data = _load(config, run) if held is None else held
    if isinstance(data, str) or data.digest == digest:
        return data
    fact = f"data: {config.data} returned different images in a worker process than in the driver"
    return f"{fact}; make it return the same images each time"


def _load(config: RunConfig, run: Path | None) -> SearchData | str:
    known = NONE if run is None else read_known(run)
    try:
        where = _root(config)
        return load_search_data(
            config.data, where, config.seed, config.val_fraction, augment=config.augment, known=known,
            task=config.task,
        )  # fmt: skip
    except UserError as error:
        return str(error)


def _root(config: RunConfig) -> Path | None:
    return Path(config.data_root) if config.data_root else None
