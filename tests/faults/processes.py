"""Which processes belong to a search, by its executor, as Linux lists them in /proc; and a call in a new process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def children_of(pid: int) -> list[int]:
    """The processes that a process's main thread has started and that haven't ended."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def below(pids: Iterable[int]) -> set[int]:
    """The descendants of processes, whichever of their threads started them; one that ends meanwhile may be missing."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if (told := stat(int(folder.name))) is not None:
            children.setdefault(told[2], []).append(int(folder.name))
    found, waiting = set[int](), list(pids)
    while waiting:
        new = [child for child in children.get(waiting.pop(), []) if child not in found]
        found.update(new)
        waiting += new
    return found


def members(executor: str, driver: int, kind: str) -> list[int]:
    """The processes of one kind below a driver.

    local: "fork server", from which workers are forked, or "worker". ray: "raylet", Ray's daemon, or "worker": those
    that Ray keeps for a run's functions, with work or without, but not its agents, which call themselves ray::…Agent.
    """
    if executor == "ray":
        own = sorted(below([driver]))
        if kind == "worker":
            return [
                pid for pid in own if (name := title(pid)).startswith("ray::") and not name.endswith("Agent")
            ]
        return [pid for pid in own if (told := stat(pid)) is not None and told[0] == kind]
    servers = children_of(driver)
    return servers if kind == "fork server" else [pid for server in servers for pid in children_of(server)]


def stat(pid: int) -> tuple[str, str, int] | None:
    """A process's name, state (Z: ended, but not yet reaped) and parent; None when it is gone."""
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return None
    return before.partition("(")[2], after.split()[0], int(after.split()[1])


def title(pid: int) -> str:
    """The first word of a process's command line, which it may have set itself; '' when it is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split()
    except OSError:
        return ""
    return words[0].decode(errors="replace") if words else ""


def runs(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    told = stat(pid)
    return told is not None and told[1] != "Z"


def kill(pid: int) -> None:
    """Kill −9."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def outlive(pids: Iterable[int], seconds: float) -> set[int]:
    """Which of these processes, or of those that they start meanwhile, are there after so many seconds."""
    limit = time.monotonic() + seconds
    left = {pid for pid in pids if runs(pid)}
    while left and time.monotonic() < limit:
        time.sleep(0.1)
        left = {pid for pid in left | below(left) if runs(pid)}
    return left


def in_new_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns in a process of its own, which has not used a GPU or Ray before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()
