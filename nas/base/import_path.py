"""Where processes look for modules: never first in the current folder, which may be a stranger's run."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

_VARIABLE = "PYTHONSAFEPATH"


@contextmanager
def safe_path() -> Generator[None]:
    """Keep the current folder off the import path of Python processes that are started inside, by whatever library.

    Our own are started with -P, which is the same. Multiprocessing's begin as `python -c`, whose path has it first.
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
