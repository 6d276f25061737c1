"""A setting is declared once: the command line, recipes, stored runs and Python have the same."""

import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
from engine_support import TINY

from nas.base.errors import UserError
from nas.cli import commands, generated_options
from nas.config.option import Option, Required, options
from nas.config.run_config import RunConfig
from nas.policies.builtin import POLICIES, SAMPLERS
from nas.policies.settings import POLICY_SETTINGS
from nas.registry.configure import check_config, make_config, with_setting_tables

FIELDS = {option.name: option for option in options(RunConfig)}
SETTINGS = [
    *((("policy", name), option) for name, kind in POLICY_SETTINGS.items() for option in options(kind)),
    *((("move_sampler", name), option) for name, e in SAMPLERS.items() for option in options(e.settings)),
]


def parameters(command: str) -> dict[str, Any]:
    """What Typer is told of each option."""
    taken = inspect.signature(getattr(commands, command)).parameters
    return {name: get_args(taken[name].annotation)[-1] for name in taken if get_args(taken[name].annotation)}


def beyond(option: Option) -> list[float]:
    """Numbers that are just out of a setting's range."""
    found = [option.least - 1] if option.least is not None else []
    found += [option.most + 1] if option.most is not None else []
    found += [option.above] if option.above is not None else []
    return found + ([option.below] if option.below is not None else [])


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_on_the_command_line(name: str) -> None:
    option, known = FIELDS[name], parameters("search")
    assert option.help
    if name == "space":
        assert "what" in known
    elif option.shown.panel is None:
        assert name in ("train", "sampler_settings", "recipe", "start", "after", "fitted")
    else:
        parameter = known[name]
        # Typer takes the first for a default, and knows better later.
        assert option.flag in (parameter.default, *parameter.param_decls)
        assert option.help in parameter.help
        # What is not given is the configuration's to say.
        assert inspect.signature(commands.search).parameters[name].default is None
        if option.default not in (None, Required, (), {}) and not option.shown.unset:
            assert f"(Default: {option.default}.)" in parameter.help
        if not option.text:
            assert (parameter.min, parameter.max) == (option.least, option.most)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_its_default_and_range_in_recipes_and_in_python(name: str, tmp_path: Path) -> None:
    option = FIELDS[name]
    if option.default is not Required:
        required = {"space": "digits", "data": "digits", "generations": 1}
        config = check_config(required)
        if name not in required and name != "policy_settings":
            assert getattr(config, name) == option.default
            assert getattr(RunConfig(**required), name) == option.default  # pyright: ignore
    for wrong in beyond(option):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f'space = "digits"\n{name} = {wrong}\n')
        for ask in (
            lambda wrong=wrong: check_config({**TINY, name: wrong}),
            lambda wrong=wrong: make_config("digits", {name: wrong}),
            lambda recipe=recipe: make_config(str(recipe), {}),
        ):
            with pytest.raises(UserError, match=f"{name}: input should be "):
                ask()


@pytest.mark.parametrize(("place", "option"), SETTINGS, ids=lambda value: getattr(value, "name", None))
def test_settings_of_policies_and_samplers_as_well(place: tuple[str, str], option: Option) -> None:
    kind, owner = place
    table = "policy_settings" if kind == "policy" else "sampler_settings"
    entry: Any = POLICIES[owner] if kind == "policy" else SAMPLERS[owner]
    assert option.help
    assert entry.settings.model_fields.keys() >= {option.name}
    config = check_config({**TINY, kind: owner})
    assert getattr(config, table)[option.name] == option.default
    assert (option.name in parameters("search")) == (kind == "policy" and option.shown.panel is not None)
    for wrong in beyond(option):
        for values in ({option.name: wrong}, {table: {option.name: wrong}}):
            with pytest.raises(UserError, match=f"{option.name}: input should be "):
                check_config({**TINY, kind: owner, **values})


def test_what_goes_on_with_a_run_takes_what_may_change_and_what_names_code() -> None:
    place = {name for name, option in FIELDS.items() if option.shown.resumed}
    code = {name for name, option in FIELDS.items() if option.shown.code} | {"objective"}
    for command in ("resume", "replay"):
        assert place | code <= parameters(command).keys()
    assert {"space", "moves", "data", "data_root"} <= parameters("fsck").keys()


def test_what_was_typed_becomes_settings() -> None:
    given = {
        "budget": "2m", "limits": ["params=2e6", "macs=9"], "moves": ["widen"], "data_root": "here", "epochs": None,
        "policy_settings": ["rungs=3", "sampler.pool=4", "train.lr=0.2", "train.precision=bf16"],
    }  # fmt: skip
    found = generated_options.values(given)
    assert found == {
        "budget": "2m", "limits": {"params": 2_000_000, "macs": 9}, "moves": ("widen",),
        "data_root": str(Path("here").absolute()), "policy_settings": {"rungs": 3},
        "sampler_settings": {"pool": 4}, "train": {"lr": 0.2, "precision": "bf16"},
    }  # fmt: skip
    config = make_config("digits", {**found, "move_sampler": "predictor"})
    assert (config.budget, config.policy_settings) == (120.0, {"rungs": 3, "parent": None, "margin": 0.0})
    assert config.sampler_settings == {"pool": 4, "startup": 5, "noise": 0.1}
    assert (config.train.lr, config.train.precision) == (0.2, "bf16")


# -- runs and recipes of older versions ------------------------------------------------------------------

OLD: dict[str, Any] = {
    **TINY,
    "objective": "params",
    "latency_from": None,
    "rungs": 1,
    "policy": "hill-climb",
}


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ({}, {"rungs": 1, "parent": None, "margin": 0.0}),
        ({"rungs": 2}, {"rungs": 2, "parent": None, "margin": 0.0}),
        (
            {"policy": "pareto", "objective": "macs"},
            {"objective": "macs", "latency_from": None, "candidates": 8},
        ),
        (
            {"policy": "pareto", "objective": "latency", "latency_from": "/run"},
            {"objective": "latency", "latency_from": "/run", "candidates": 8},
        ),
        ({"policy": "random"}, {}),
    ],
)
def test_a_configuration_of_an_older_version_is_read(
    change: dict[str, Any], settings: dict[str, Any]
) -> None:
    assert check_config({**OLD, **change}).policy_settings == settings


def test_what_an_older_version_kept_for_a_policy_of_ones_own_is_kept() -> None:
    values = with_setting_tables({**OLD, "policy": "mine:Mine", "rungs": 2})
    assert values["policy_settings"] == {"rungs": 2}
    assert not {"rungs", "objective", "latency_from"} & values.keys()


def test_a_setting_that_a_policy_does_not_have_is_refused_by_name() -> None:
    for table in (lambda value: value, lambda value: {"policy_settings": value}):
        with pytest.raises(
            UserError, match="evolution has no setting rungs; choose hill-climb, which has it"
        ):
            check_config({**TINY, "policy": "evolution", **table({"rungs": 2})})
    with pytest.raises(UserError, match='there is no setting "rung"; did you mean rungs'):
        check_config({**TINY, "rung": 2})
    with pytest.raises(UserError, match=r"latency_from .*--objective latency"):
        check_config({**TINY, "policy": "pareto", "latency_from": "/run"})
    with pytest.raises(UserError, match="random draws moves uniformly; omit tpe"):
        check_config({**TINY, "policy": "random", "move_sampler": "tpe"})
