"""`--log TOOL`: every trial and its steps, written for another tool by its own library.

    nas search digits --log csv --log tensorboard         # RUN/log/trials.csv, tensorboard --logdir RUN/log/tensorboard

They are callbacks, as a user's own (`nas.Callback`), and decide nothing: one that fails says so once, and is left out.
Each works without a network: MLflow and Weights & Biases write into the run's folder, unless the variables of their own
(MLFLOW_TRACKING_URI, WANDB_MODE) say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from nas.base.errors import UserError
from nas.base.printing import warn
from nas.base.text import one_line
from nas.run.events import EVENTS

LOG = "log"  # the folder in a run's that holds what they write


@dataclass(frozen=True)
class Tool:
    """A tool. needs: the packages that pip installs for it, by the module that each brings. made: where its callback
    is, as module:class; imported when it is asked for.
    """

    made: str
    needs: Mapping[str, str]


TOOLS: Mapping[str, Tool] = {
    "csv": Tool("nas.adapters.log_csv:CsvLogger", {}),
    "tensorboard": Tool("nas.adapters.log_tensorboard:TensorBoardLogger", {"tensorboard": "tensorboard"}),
    "mlflow": Tool("nas.adapters.log_mlflow:MlflowLogger", {"mlflow": "mlflow-skinny"}),
    "wandb": Tool("nas.adapters.log_wandb:WandbLogger", {"wandb": "wandb"}),
}


def loggers(names: Sequence[str]) -> tuple[object, ...]:
    """The callbacks of the tools with these names, each once. Raises UserError, with what to install, for a tool that
    is not there.
    """
    return tuple(_Guarded(name, _made(name)) for name in dict.fromkeys(names))


def _made(name: str) -> Any:
    tool = TOOLS.get(name)
    if tool is None:
        raise UserError(f'--log: there is no tool "{name}"; choose one of {", ".join(TOOLS)}')
    missing = [package for module, package in tool.needs.items() if find_spec(module) is None]
    if missing:
        raise UserError(
            f"--log {name} needs {', '.join(missing)}; install it with: pip install {' '.join(missing)}"
        )
    module, _, made = tool.made.partition(":")
    return getattr(import_module(module), made)()


class _Guarded:
    """A logger that may fail, as on a full disk or without a network, without ending the search."""

    def __init__(self, name: str, logger: object) -> None:
        self._name = name
        self._failed = False
        for event in EVENTS:
            method = getattr(logger, event, None)
            if method is not None:
                setattr(self, event, self._safe(method))

    def _safe(self, method: Callable[..., None]) -> Callable[..., None]:
        def call(*facts: Any) -> None:
            if self._failed:
                return
            try:
                method(*facts)
            except Exception as error:  # of somebody else's library
                self._failed = True
                fact = one_line(f"{type(error).__name__}: {error}")[:300]
                warn(
                    f"nas: --log {self._name} failed and is left out from here on ({fact}); the search goes on"
                )

        return call
