"""Executors: where trials are performed."""

from nas.execute.executor import Done, Executor, ExecutorFactory, Progressed
from nas.execute.local import LocalExecutor

__all__ = ["Done", "Executor", "ExecutorFactory", "LocalExecutor", "Progressed"]
