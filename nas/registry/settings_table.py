"""Lists every setting of a search, for the reference page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nas.config.option import Required, options
from nas.config.run_config import RunConfig
from nas.config.training import TrainConfig
from nas.registry.defaults import REGISTRY
from nas.registry.registry import Registry

TABLES = ("train", "policy_settings", "sampler_settings")


@dataclass(frozen=True)
class Row:
    """A setting. owner: "" (the run), train, or the name of a policy or a move sampler.

    default: as text; empty if there is none. flag: the option of `nas search`; None if it has none.
    """

    owner: str
    name: str
    kind: str
    default: str
    range: str
    help: str
    flag: str | None


def reference(registry: Registry = REGISTRY) -> Iterator[Row]:
    """The settings of a run, of its training, and of every policy and move sampler in `registry`."""
    yield from (row for row in _rows("", RunConfig) if row.name not in (*TABLES, "recipe", "start"))
    yield from _rows("train", TrainConfig)
    for entries in (registry.policies, registry.samplers):
        for name, entry in entries.items():
            if entry.settings is not None:
                yield from _rows(name, entry.settings)


def _rows(owner: str, declared: type[Any]) -> Iterator[Row]:
    for option in options(declared):
        known = option.default not in (None, Required, (), {})
        default = option.shown.unset or (str(option.default) if known else "")
        flagged = option.shown.panel is not None and option.name != "space"
        yield Row(
            owner,
            option.name,
            option.kind,
            default,
            option.range,
            option.help,
            option.flag if flagged else None,
        )
