"""What a search is told, by the options of the command line or by the arguments of `nas.search`, as a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from nas.base.errors import UserError
from nas.base.text import one_line
from nas.config.quantity import parse_limit
from nas.config.run_config import RunConfig
from nas.execute.choose import check_executor
from nas.inspect.status import find_run
from nas.registry.configure import configure
from nas.registry.plugins import with_plugins
from nas.registry.value import Registry

# What says where a run is carried out, and decides nothing: these may differ when it is resumed.
PLACE = ("data_root", "executor", "address", "gpus_per_child", "storage", "workers")


def configuration(
    what: str, given: Mapping[str, Any], registry: Registry | None = None
) -> tuple[RunConfig, Registry]:
    """The configuration for a space or recipe, and the registry with the code that it names.

    given: fields of RunConfig, or settings of the policy or the move sampler; what is None counts as not given.
    Durations are seconds or text such as "10m"; limits a mapping or texts such as "params=2e6"; paths may be Path.
    registry: None is ours with the installed plugins. Raises UserError.
    """
    values = {name: _plain(value) for name, value in given.items() if value is not None}
    if "latency_from" in values:
        values["latency_from"] = str(find_run(str(values["latency_from"])).absolute())
    if "limits" in values:
        values["limits"] = _limits(values["limits"])
    config, registry = configure(what, values, with_plugins() if registry is None else registry)
    check_executor(config.executor, config.storage)
    if not config.address:  # else the cluster's nodes have it, or not
        check_device(config.device)
    return config, registry


def place_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among PLACE that are given. Raises UserError for any other."""
    found = {name: _plain(value) for name, value in given.items() if value is not None}
    other = sorted(found.keys() - set(PLACE))
    if other:
        fact = f"resume: {other[0]} is fixed when a run begins, or is not a setting at all"
        raise UserError(f"{fact}; these may differ: {', '.join(PLACE)}")
    if "data_root" in found:
        found["data_root"] = str(Path(found["data_root"]).expanduser().absolute())
    check_executor(found.get("executor", "local"), found.get("storage"))
    return found


def check_device(name: str) -> None:
    """UserError when torch can't compute on the device `name` here."""
    import torch

    try:
        float(torch.zeros(1, device=torch.device(name)).sum())
    except Exception as error:  # torch says no in many ways: RuntimeError, AssertionError, …
        fact = one_line(str(error)).split(". ")[0][:160]
        raise UserError(
            f'device "{name}" can\'t be used here ({fact}); use cpu or another --device'
        ) from None


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _limits(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name): int(value) for name, value in cast("Mapping[Any, Any]", given).items()}
    texts = [given] if isinstance(given, str) else list(cast("Iterable[str]", given))
    return dict(parse_limit(text) for text in texts)
