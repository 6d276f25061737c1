"""Makes a configuration from the command line's options or the arguments of `nas.search`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from nas.base.errors import UserError
from nas.base.text import clip, one_line
from nas.config.quantity import parse_limit
from nas.config.run_config import RunConfig
from nas.config.training import TRAINING
from nas.data.run_arrays import PREFIX
from nas.execute.make_executor import check_executor
from nas.inspect.status import find_run
from nas.registry.configure import configure
from nas.registry.plugins import with_plugins
from nas.registry.registry import Registry

# Settings of where and how a run is carried out, which decide no results: they may differ when it is resumed.
PLACE = ("data_root", "executor", "address", "gpus_per_child", "storage", "workers")
AUTO = "auto"  # a GPU if there is one


def configuration(
    what: str, given: Mapping[str, Any], registry: Registry | None = None, trained: bool = False
) -> tuple[RunConfig, Registry]:
    """The configuration for a space or recipe, and the registry with the code that it names.

    given: fields of RunConfig, settings of the policy or the move sampler, lr or batch_size; None counts as not given.
    Durations are seconds or text such as "10m"; limits are a mapping or texts such as "params=2e6"; paths may be Path.
    registry: None means ours with the installed plugins. trained: the search starts from a trained model. Raises
    UserError.
    """
    _check_texts("space", [what])
    values = {name: _plain(value) for name, value in given.items() if value is not None}
    _check_texts("moves", values.get("moves", ()))
    training = {name: values.pop(name) for name in TRAINING if name in values}
    if training:
        values["train"] = {**values.get("train", {}), **training}
    if "latency_from" in values:
        values["latency_from"] = str(find_run(str(values["latency_from"])).absolute())
    if "limits" in values:
        values["limits"] = _limits(values["limits"])
    config, registry = configure(what, values, with_plugins() if registry is None else registry, trained)
    check_executor(config.executor, config.storage)
    if config.device == AUTO or "device" in config.fitted:
        config = config.model_copy(update={"device": best_device(config.address)})
    if not config.address:  # else it is a device of the cluster's nodes
        check_device(config.device)
    return config, registry


def place_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among PLACE that are given. Raises UserError for any other."""
    found = {name: _plain(value) for name, value in given.items() if value is not None}
    other = sorted(found.keys() - set(PLACE))
    if other:
        fact = f"resume: {other[0]} can't change after the start of a run, or is not a setting"
        raise UserError(f"{fact}; these may change: {', '.join(PLACE)}")
    if "data_root" in found:
        found["data_root"] = str(Path(os.path.expanduser(found["data_root"])).absolute())
    check_executor(found.get("executor", "local"), found.get("storage"))
    return found


def best_device(address: str | None) -> str:
    """The device where nobody chose one: a GPU if this machine has one; of a cluster, at `address`, it isn't known."""
    import torch

    return "cuda" if address is None and torch.cuda.is_available() else "cpu"


def check_device(name: str) -> None:
    """Raise UserError if torch can't compute on the device `name` on this machine."""
    import torch

    try:
        float(torch.zeros(1, device=torch.device(name)).sum())
    except Exception as error:  # torch raises many classes: RuntimeError, AssertionError, …
        fact = one_line(str(error)).split(". ")[0][:160]
        raise UserError(
            f'device "{name}" can\'t be used here ({fact}); use cpu or another --device'
        ) from None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _check_texts(name: str, given: Any) -> None:
    """UserError unless these are names: a class or function is passed in a registry."""
    for value in cast("Iterable[Any]", given) if isinstance(given, (list, tuple)) else (given,):
        if not isinstance(value, str):
            fact = f"{name}: {value!r:.80} is not a name"
            raise UserError(f"{fact}; pass it with registry=nas.REGISTRY.with_(…) and give its name here")


def _limits(given: Any) -> dict[str, Any]:
    texts = [given] if isinstance(given, str) else given
    try:
        if isinstance(given, Mapping):
            return {str(name): int(value) for name, value in cast("Mapping[Any, Any]", given).items()}
        return dict(parse_limit(text) for text in cast("Iterable[str]", texts))
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(
            f'limits: {given!r:.80} is not valid; give a mapping such as {{"params": 2e6}}'
        ) from None


def called(name: str, what: str, given: Mapping[str, Any]) -> str:
    """A call as Python text, for the record."""
    named = {
        key: "…" if isinstance(value, str) and value.startswith(PREFIX) else clip(repr(value), 200)
        for key, value in given.items()
        if value is not None and value != ()
    }
    arguments = ", ".join([repr(what), *(f"{key}={value}" for key, value in named.items())])
    return f"nas.{name}({arguments})"
