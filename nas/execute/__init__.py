"""Executors: where trials are performed."""

from pathlib import Path

from nas.config import RunConfig
from nas.execute.executor import Done, Executor, ExecutorFactory, Progressed
from nas.execute.local import LocalExecutor
from nas.nursery import Nursery

__all__ = ["Done", "Executor", "ExecutorFactory", "LocalExecutor", "Progressed", "make_executor"]


def make_executor(run: Path, config: RunConfig, data_digest: str, nursery: Nursery | None = None) -> Executor:
    """The executor that the configuration names. Ray is imported only here, when asked for.

    nursery: one that was started before, for the local executor; another has no use for it and ends it.
    """
    if config.executor == "ray":
        from nas.ray import RayExecutor

        if nursery is not None:
            nursery.close()
        return RayExecutor(run, config, data_digest)
    return LocalExecutor(run, config, data_digest, nursery)
