"""A job running on Ray, and the state of the cluster and of dead workers."""

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
    """A running job."""

    request: JobRequest
    job: Job
    starts: int = 0
    actor: Any = None
    node: str | None = None  # set once the job has begun
    deadline: float | None = None
    reason: str | None = None  # why the engine killed it
    lost: tuple[float, str] | None = None  # since when, and Ray's message


def has_room(config: RunConfig) -> bool:
    """Return whether some node is large enough for a child when idle."""
    need = {"CPU": float(config.threads), "GPU": config.gpu_share}
    return any(
        node["Alive"] and all(node["Resources"].get(name, 0.0) >= much for name, much in need.items())
        for node in ray.nodes()
    )


def nodes_alive() -> set[str]:
    """Return the nodes that Ray lists as alive and whose daemon answers: Ray takes half a minute to notice a death."""
    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"] and _answers(node)}


def _answers(node: Mapping[str, Any]) -> bool:
    with suppress(OSError):
        address = (str(node["NodeManagerAddress"]), int(node["NodeManagerPort"]))
        socket.create_connection(address, ANSWER_SECONDS).close()
        return True
    return False


def no_room(config: RunConfig) -> str:
    """Return the message if no node is large enough for a child."""
    child = f"{config.threads} processors and {config.gpu_share:g} GPUs"
    return f"ray: no node has the {child} that a child needs; lower --threads or --gpus-per-child"


def kill(actor: Any) -> None:
    """Kill a worker process."""
    if actor is not None:
        with suppress(Exception):  # it has already ended
            ray.kill(actor)


def why(cause: str, log: Path) -> str:
    """Describe why a worker died."""
    if "memory pressure" in cause or "OOM" in cause.split("common causes")[0]:
        return "Ray killed its worker process: out of memory; set a limit on parameters or activations"
    if "The actor died" in cause or "Worker unexpectedly exits" in cause:
        return f"its worker process died (most likely out of memory; see {log})"
    return f"it failed in Ray with: {last_line(cause)}"


def last_line(text: str) -> str:
    """Return the last line that is not blank, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason"
