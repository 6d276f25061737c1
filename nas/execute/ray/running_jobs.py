"""A job under way on Ray, and what can be said of the cluster and of workers' deaths."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from nas.config.run_config import RunConfig
from nas.execute.ray.messages import JobRequest
from nas.ledger import Job

ANSWER_SECONDS = 2.0


@dataclass(eq=False)
class RunningJob:
    """A job under way."""

    request: JobRequest
    job: Job
    starts: int = 0
    actor: Any = None
    node: str | None = None  # once it is at work
    deadline: float | None = None
    reason: str | None = None  # why we killed it
    lost: tuple[float, str] | None = None  # since when, and Ray's words


def has_room(config: RunConfig) -> bool:
    """Whether a node is large enough for a child, were it free."""
    need = {"CPU": float(config.threads), "GPU": config.gpu_share}
    return any(
        node["Alive"] and all(node["Resources"].get(name, 0.0) >= much for name, much in need.items())
        for node in ray.nodes()
    )


def nodes_alive() -> set[str]:
    """The nodes that Ray holds to be alive and whose daemon answers: Ray itself takes half a minute to give one up."""
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"] and _answers(node)}


def _answers(node: Mapping[str, Any]) -> bool:
    with suppress(OSError):
        address = (str(node["NodeManagerAddress"]), int(node["NodeManagerPort"]))
        socket.create_connection(address, ANSWER_SECONDS).close()
        return True
    return False


def no_room(config: RunConfig) -> str:
    """What to say where it hasn't."""
    child = f"{config.threads} processors and {config.gpu_share:g} GPUs"
    return f"ray: no node has the {child} that a child takes; lower --threads or --gpus-per-child"


def kill(actor: Any) -> None:
    """End a worker process."""
    if actor is not None:
        with suppress(Exception):  # it is gone already
            ray.kill(actor)


def why(cause: str, log: Path) -> str:
    """A worker's death in our words."""
    if "memory pressure" in cause or "OOM" in cause.split("common causes")[0]:
        return "its worker process was killed for want of memory (by Ray); set a limit on parameters or activations"
    if "The actor died" in cause or "Worker unexpectedly exits" in cause:
        return f"its worker process died (most likely for want of memory; see {log})"
    return f"it ended in Ray with: {last_line(cause)}"


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason"
