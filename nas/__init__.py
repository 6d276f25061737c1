"""Neural architecture search that grows networks: the public API.

    import nas
    run = nas.search("nash", data="cifar10", budget="20m")
    run.best.network, run.scores, run.report(), run.export("out")

Importing it is cheap: each name is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api.run import Run
    from nas.api.search import open_run, replay, resume, search
    from nas.api.trials import Trial
    from nas.base.errors import NasError
    from nas.config.run_config import RunConfig
    from nas.data.task import Score, Task
    from nas.ledger import LedgerView, TrialRecord
    from nas.policies.policy import Policy, Proposal
    from nas.policies.sampling import MoveSampler
    from nas.registry.defaults import REGISTRY
    from nas.registry.registry import Registry
    from nas.run.events import Callback

__all__ = [
    "REGISTRY",
    "Callback",
    "LedgerView",
    "MoveSampler",
    "NasError",
    "Policy",
    "Proposal",
    "Registry",
    "Run",
    "RunConfig",
    "Score",
    "Task",
    "Trial",
    "TrialRecord",
    "open_run",
    "replay",
    "resume",
    "search",
]

_HOMES = {
    "REGISTRY": "nas.registry.defaults",
    "Callback": "nas.run.events",
    "LedgerView": "nas.ledger",
    "MoveSampler": "nas.policies.sampling",
    "NasError": "nas.base.errors",
    "Policy": "nas.policies.policy",
    "Proposal": "nas.policies.policy",
    "Registry": "nas.registry.registry",
    "Run": "nas.api.run",
    "RunConfig": "nas.config.run_config",
    "Score": "nas.data.task",
    "Task": "nas.data.task",
    "Trial": "nas.api.trials",
    "TrialRecord": "nas.ledger",
    "open_run": "nas.api.search",
    "replay": "nas.api.search",
    "resume": "nas.api.search",
    "search": "nas.api.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
