"""A limit on the address space (`ulimit -v`): below what torch needs, the process would abort without a word."""

from __future__ import annotations

import subprocess
import sys

from nas.base.errors import UserError
from nas.base.text import size

ENOUGH = 16 * 10**9  # bytes; a higher limit is not tried out
SPARE = 256 * 2**20  # bytes that must be left after the imports
_TRY = f"import mmap, nas.execute.worker; mmap.mmap(-1, {SPARE})"


def check_address_space() -> None:
    """Raise UserError if the limit is too low for a search. With a low limit, it is tried out in a process, 2 s."""
    limit = _limit()
    if limit is None or limit >= ENOUGH:
        return
    done = subprocess.run([sys.executable, "-P", "-c", _TRY], capture_output=True, check=False)
    if done.returncode:
        raise UserError(
            f"the limit on this process's address space, {size(limit)} (ulimit -v), is too low for torch; raise it, "
            "and limit memory with a cgroup instead, as docker and systemd do"
        )


def _limit() -> int | None:
    try:
        import resource
    except ImportError:  # on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
