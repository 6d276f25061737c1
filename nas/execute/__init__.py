"""Executors: where trials are performed."""

from pathlib import Path

from nas.config import RunConfig
from nas.execute.executor import Done, Executor, ExecutorFactory, Progressed
from nas.execute.local import LocalExecutor

__all__ = ["Done", "Executor", "ExecutorFactory", "LocalExecutor", "Progressed", "make_executor"]


def make_executor(run: Path, config: RunConfig, data_digest: str) -> Executor:
    """The executor that the configuration names. Ray is imported only here, when asked for."""
    if config.executor == "ray":
        from nas.ray import RayExecutor

        return RayExecutor(run, config, data_digest)
    return LocalExecutor(run, config, data_digest)
