"""Makes a run's configuration from what was given: merges layers and checks every name against a registry."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from nas.base.errors import UserError
from nas.base.machine import cores
from nas.config.option import Option, options
from nas.config.recipe import find_recipe, load_recipe
from nas.config.run_config import FITTED, MODEL, RunConfig, validated
from nas.config.settings import Settings
from nas.config.validation import checked, unknown
from nas.policies.front import LATENCY
from nas.registry.defaults import ADAMW, ADAMW_TRAINED, REGISTRY, TRAINED
from nas.registry.named_code import is_code, move_named, named, named_by
from nas.registry.registry import Registry

MERGED = ("train", "limits", "policy_settings", "sampler_settings")


def make_config(
    space_or_recipe: str, overrides: Mapping[str, Any], registry: Registry = REGISTRY
) -> RunConfig:
    """The configuration of `configure` alone, if it needs no user code."""
    return configure(space_or_recipe, overrides, registry)[0]


def configure(
    space_or_recipe: str, overrides: Mapping[str, Any], registry: Registry = REGISTRY, trained: bool = False
) -> tuple[RunConfig, Registry]:
    """The configuration for a space or a recipe (a TOML file, or a name: see `recipes`), and `registry` with the
    code that it names as package.module:name.

    overrides: fields of RunConfig, or settings of the policy or the move sampler; tables are merged key by key.
    trained: the search starts from a trained model, with defaults for that. Raises UserError with one line for wrong
    input.
    """
    recipe: dict[str, Any] = {}
    path = None
    if space_or_recipe not in (*registry.spaces, MODEL) and not is_code(space_or_recipe):
        path = find_recipe(space_or_recipe, registry.spaces)
        recipe = load_recipe(path)
    space = str(recipe.get("space", space_or_recipe))
    registry = named(registry, {"space": space})
    registry = named(registry, _names(_joined([recipe, overrides])))
    if path is not None:
        _check_recipe(path, recipe, registry)
    entry = registry.spaces.get(space)
    usual = _joined([entry.defaults if entry else {}, TRAINED if trained else {}])
    if _joined([usual, recipe, overrides]).get("train", {}).get("optimizer") == "adamw":
        usual = _joined([usual, ADAMW, ADAMW_TRAINED if trained else {}])
    layers: list[Mapping[str, Any]] = [usual, recipe, overrides]
    if any(end in layer for end in ("budget", "cost") for layer in layers[1:]):
        restarts = any(layer.get("schedule") == "restarts" for layer in layers[1:])
        fits = ("generations",) if restarts else ("generations", "epochs", "final_share")
        layers[0] = {key: value for key, value in layers[0].items() if key not in fits}
    values = _joined(layers) | {"space": space}
    given = _given(_joined(layers[1:]))
    values["fitted"] = tuple(name for name in FITTED if name not in given)
    if recipe:
        values["recipe"] = space_or_recipe
    config = check_config(values, registry)
    if "workers" in values:
        return config, registry
    # The size of a cluster is unknown: Ray gets all jobs that can run at once, and queues the rest.
    free = config.children + 1 if config.address else max(1, cores() // config.threads)
    return config.model_copy(update={"workers": free}), registry


def _given(asked: Mapping[str, Any]) -> set[str]:
    """The names of the settings in `asked`, those in its tables too."""
    tables = (asked.get(name) for name in MERGED)
    return {*asked, *(name for table in tables if isinstance(table, Mapping) for name in table)}


def _names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `values` that may name code."""
    settings: Any = values.get("policy_settings", {})
    objective = values.get("objective", settings.get("objective") if isinstance(settings, Mapping) else None)
    return {**{name: values.get(name) for name in ("policy", "executor", "moves")}, "objective": objective}


def check_config(values: Mapping[str, Any], registry: Registry = REGISTRY) -> RunConfig:
    """`values` as a configuration whose names are in `registry` or are code; settings of the policy and the sampler may
    be flat or in their tables. Only for values that a user has just given, since code is imported. Raises UserError
    with one line.
    """
    config = validated(with_setting_tables(values, registry))
    return check_names(config, named_by(config, registry))


def with_setting_tables(values: Mapping[str, Any], registry: Registry = REGISTRY) -> dict[str, Any]:
    """`values` with the settings of the policy and the move sampler moved into their tables.

    They may be flat, as in a recipe and on a command line. Runs of older versions have the settings of all policies:
    those of other policies are dropped if they have their defaults. Raises UserError for a setting that the policy
    doesn't have.
    """
    fields = RunConfig.model_fields
    result = {name: value for name, value in values.items() if name in fields}
    policy = registry.policies.get(str(values.get("policy", fields["policy"].default)))
    sampler = registry.samplers.get(str(values.get("move_sampler", fields["move_sampler"].default)))
    for name, value in values.items():
        if name in fields:
            continue
        if policy and name in _settings(policy.settings):
            table = "policy_settings"
        elif sampler and name in _settings(sampler.settings):
            table = "sampler_settings"
        else:
            owners = _owners_of(name, registry)
            if owners and all(value == option.default for option in owners.values()):
                continue
            if not owners:
                known = [*fields, *_settings(policy.settings if policy else None)]
                raise UserError(f"configuration: {unknown('setting', name, known)}")
            if policy is not None and policy.settings is not None:
                chosen = values.get("policy", fields["policy"].default)
                raise UserError(f"configuration: {chosen} has no setting {_with_suggestion(name, owners)}")
            table = "policy_settings"  # a user's policy, which checks its settings itself
        result[table] = {**result.get(table, {}), name: value}
    return result


def check_names(config: RunConfig, registry: Registry = REGISTRY) -> RunConfig:
    """`config` with all settings of its policy and move sampler filled in; its names must be in `registry`.

    Raises UserError with one line for an unknown name, and for settings that the policy or sampler doesn't have.
    """
    _need("search space", config.space, [*registry.spaces, MODEL])
    _need("policy", config.policy, registry.policies)
    _need("move sampler", config.move_sampler, registry.samplers)
    _need("executor", config.executor, registry.executors)
    for name in config.moves:
        move_named(name, registry)
    policy, sampler = registry.policies[config.policy], registry.samplers[config.move_sampler]
    if not policy.samples and config.move_sampler != "uniform":
        raise UserError(
            f"configuration: {config.policy} draws moves uniformly; omit {config.move_sampler} or choose another policy"
        )
    drawn = _filled(sampler.settings, config.sampler_settings, config.move_sampler, {})
    settings = config.policy_settings
    if policy.settings is not None:
        others = {name: entry.settings for name, entry in registry.policies.items()}
        settings = _filled(policy.settings, settings, config.policy, others)
        if "objective" in settings:
            _need("objective", str(settings["objective"]), [*registry.objectives, LATENCY])
    return config.model_copy(update={"policy_settings": settings, "sampler_settings": drawn})


def _need(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise UserError(f"configuration: {unknown(what, name, [n for n in known if not is_code(n)])}")


def _filled(
    kind: type[Settings], given: Mapping[str, Any], name: str, others: Mapping[str, type[Settings] | None]
) -> dict[str, Any]:
    """The settings `given`, checked, with all others at their defaults."""
    for key in given:
        owners = {other: _settings(its)[key] for other, its in others.items() if key in _settings(its)}
        if key not in _settings(kind) and owners:
            raise UserError(f"configuration: {name} has no setting {_with_suggestion(key, owners)}")
    return checked(kind, given).model_dump(mode="json")


def _settings(kind: type[Settings] | None) -> dict[str, Option]:
    return {} if kind is None else {option.name: option for option in options(kind)}


def _owners_of(name: str, registry: Registry) -> dict[str, Option]:
    """The policies, or else the samplers, that have a setting called `name`."""
    for kinds in (registry.policies, registry.samplers):
        found = {
            entry: declared[name]
            for entry, value in cast(Mapping[str, Any], kinds).items()
            if name in (declared := _settings(value.settings))
        }
        if found:
            return found
    return {}


def _with_suggestion(name: str, owners: Iterable[str]) -> str:
    names = list(owners)
    return f"{name}; choose {' or '.join(names)}, which {'has' if len(names) == 1 else 'have'} it, or omit it"


def _joined(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the layers; later ones override earlier ones."""
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            merged = key in MERGED and isinstance(value, Mapping)
            values[key] = {**values.get(key, {}), **value} if merged else value
    return values


def _check_recipe(path: Path, recipe: Mapping[str, Any], registry: Registry) -> None:
    """Raise UserError, naming the file, if the recipe itself is wrong."""
    ends = {} if {"budget", "generations"} & recipe.keys() else {"generations": 1}
    try:
        check_config({"data": "digits", **ends, **recipe}, registry)
    except UserError as error:
        raise UserError(f"recipe: {path}: {str(error).removeprefix('configuration: ')}") from None
