"""Makes the executor that a configuration names. Ray is imported only when requested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.base.errors import UserError
from nas.config.run_config import RunConfig
from nas.execute.executor import Executor
from nas.execute.local import LocalExecutor
from nas.execute.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    from nas.execute.ray.executor import RayExecutor


def make_executor(
    run: Path, config: RunConfig, data_digest: str, processes: WorkerProcesses | None = None
) -> Executor:
    """Make the executor that the configuration names.

    processes: existing worker processes for the local executor; other executors close them. Raises UserError as
    `check_executor` does.
    """
    if config.executor == "local":
        return LocalExecutor(run, config, data_digest, processes)
    if processes is not None:
        processes.close()
    return _ray_executor()(run, config, data_digest)


def check_executor(name: str, storage: str | None = None) -> None:
    """Raise UserError if a package that the executor `name` needs is not installed, or `storage` is not valid."""
    if name == "ray":
        _ray_executor()
    if storage is not None:
        from nas.execute.ray.transfer import Storage

        Storage(storage, None)


def _ray_executor() -> type[RayExecutor]:
    """Import Ray, here alone and only when requested."""
    try:
        from nas.execute.ray.executor import RayExecutor
    except ImportError as error:
        raise UserError(
            f"executor ray: Ray can't be imported ({str(error).splitlines()[0]}); "
            'pip install "ray[tune]", or use --executor local'
        ) from None
    return RayExecutor
