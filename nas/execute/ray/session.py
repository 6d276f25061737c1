"""Starting and stopping Ray: an embedded instance, or a connection to an existing cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray.job_config import JobConfig

from nas.base.errors import RunError
from nas.base.import_path import safe_path
from nas.base.text import nas_command
from nas.config.run_config import RunConfig
from nas.ledger.run_files import open_file

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # Tune's workers use another environment: these would stay unused
    "RAY_worker_niceness": "0",  # the default 15 would let other processes starve the children
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output always prints a table
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is the record
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
WATCH_SECONDS = 2.0
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


@dataclass
class Session:
    """A connection to Ray. owned: whether `connect` opened it; `close` leaves an existing connection open."""

    owned: bool
    log: Path
    _restore: dict[str, str | None]
    _level: int
    _print: Any
    raylet: tuple[str, int] | None = None
    _looked: float = field(default=0.0)

    def close(self) -> None:
        """Disconnect, unless the connection existed before, and undo what `connect` set."""
        if self.owned:
            ray.shutdown()
        ray_worker.print_to_stdstream = self._print
        logging.getLogger("ray").setLevel(self._level)
        for name, value in self._restore.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def raylet_died(self, at_once: bool = False) -> bool:
        """Return whether Ray's daemon on this machine has died; checks every few seconds, or `at_once`.

        Ray itself notices 15 seconds later, and then ends this process without a message.
        """
        if self.raylet is None:
            return False
        if not at_once and time.monotonic() - self._looked < WATCH_SECONDS:
            return False
        self._looked = time.monotonic()
        try:
            socket.create_connection(self.raylet, timeout=5).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # slow, but not dead
        return False


def connect(config: RunConfig, log: Path) -> Session:
    """Connect to Ray as configured, or start it; its daemons' messages go to the file `log`.

    Raises RunError if it can't be reached or started.
    """
    settings = {**ENVIRONMENT, "TUNE_MAX_PENDING_TRIALS_PG": str(config.workers)}  # older versions of Tune: 1
    restore = {name: os.environ.get(name) for name in settings}
    session = Session(
        owned=not ray.is_initialized(),
        log=log,
        _restore=restore,
        _level=logging.getLogger("ray").level,
        _print=ray_worker.print_to_stdstream,
    )
    os.environ.update(settings)
    try:
        if session.owned:
            with _sigterm_kept():
                _init(config)
        logging.getLogger("ray").setLevel(logging.CRITICAL + 1)
        ray_worker.print_to_stdstream = session_printer(log)
        session.raylet = _raylet()
    except Exception as error:
        session.close()
        place = f"the cluster at {config.address}" if config.address else "Ray"
        fact = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise RunError(
            f"ray: {place} can't be used ({fact}); fix that and continue with: {nas_command('resume', log.parent)}, "
            "or start a new run with another --address or --executor local"
        ) from error
    return session


def session_printer(log: Path) -> Any:
    """Return a replacement for Ray's printing to the terminal, which can't be switched off."""

    def keep(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        with suppress(OSError), open(open_file(log, APPEND), "a", encoding="utf-8") as file:
            file.writelines(f"(ray) {line}\n" for line in data.get("lines", []))

    return keep


def _init(config: RunConfig) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    # Otherwise Ray puts the current folder, and our script's, first on the import path of its workers.
    quiet["job_config"] = JobConfig(_client_job=True)
    if config.address:
        ray.init(address=config.address, **quiet)
        return
    with _loopback(), safe_path():
        ray.init(
            address="local",
            num_cpus=config.workers * config.threads,
            num_gpus=None if config.device.startswith("cuda") else 0,
            include_dashboard=False,
            **quiet,
        )


@contextmanager
def _loopback() -> Generator[None]:
    """Have Ray's daemons listen on the loopback address, as they do on systems where Ray does not allow clusters."""
    former = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = former


@contextmanager
def _sigterm_kept() -> Generator[None]:
    """Restore the SIGTERM handler, which `ray.init` replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _raylet() -> tuple[str, int] | None:
    """Return the address and port of this machine's daemon; None if it is not listed."""
    here = ray.get_runtime_context().get_node_id()
    node = next((node for node in ray.nodes() if node["NodeID"] == here), None)
    return None if node is None else (str(node["NodeManagerAddress"]), int(node["NodeManagerPort"]))
