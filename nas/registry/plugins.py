"""Plugins from installed packages: the entry points of the group `morph_nas.plugins`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from nas.base.errors import UserError
from nas.base.user_code import where_raised
from nas.registry.defaults import REGISTRY
from nas.registry.registry import Registry

GROUP = "morph_nas.plugins"


def with_plugins(registry: Registry = REGISTRY) -> Registry:
    """`registry` with the plugins of installed packages, added in the order of the entry points' names.

    An entry point names a function from a registry to a registry, or a mapping with the arguments of
    `Registry.with_`. Raises UserError with one line that names the package if a plugin doesn't work.
    """
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        registry = _added(registry, entry)
    return registry


def _added(registry: Registry, entry: EntryPoint) -> Registry:
    package = entry.dist.name if entry.dist is not None else "an unknown package"
    place = f'plugin "{entry.name}" of {package}'
    try:
        plugin: Any = entry.load()
        made: Any = (
            registry.with_(**cast(Mapping[str, Any], plugin))
            if isinstance(plugin, Mapping)
            else plugin(registry)
        )
    except UserError as error:
        raise UserError(f"{place}: {error}; or uninstall {package}") from None
    except Exception as error:  # its code may raise anything
        raise UserError(f"{place} failed ({where_raised(error)}); fix or uninstall {package}") from error
    if not isinstance(made, Registry):
        raise UserError(
            f"{place} returned a {type(made).__name__}, not a Registry; fix or uninstall {package}"
        )
    return made
