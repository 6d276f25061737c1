"""Command options, generated from the declarations of settings. Nothing about a single setting is repeated here."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin

import typer

from nas.base.errors import UserError
from nas.config.option import WORK, Option, Required, options
from nas.config.quantity import parse_limit
from nas.config.run_config import RunConfig
from nas.config.training import TRAINING, TrainConfig
from nas.policies.settings import POLICY_SETTINGS

Command = TypeVar("Command", bound=Callable[..., Any])
AGAIN = (
    "The run's {} again; needed only if it is a package.module:name, since code is never run because a file of the "
    "run names it."
)


def of_search() -> Iterator[Option]:
    """The options of `nas search`: the fields of a configuration except the space, some of its training, and settings
    of our policies.
    """
    yield from (option for option in options(RunConfig) if option.name != "space" and option.shown.panel)
    yield from (option for option in options(TrainConfig) if option.name in TRAINING)
    for policy, settings in POLICY_SETTINGS.items():
        for option in options(settings):
            if option.shown.panel:
                yield replace(option, help=f"Of {policy}: {option.help[:1].lower()}{option.help[1:]}")


def of_place() -> Iterator[Option]:
    """The options that say how a run is carried out, which may change when it is continued."""
    return (o for o in options(RunConfig) if o.shown.resumed and not _asked_again(o))


def named_again() -> Iterator[Option]:
    """The options that may name code, which a command that continues a run must give again."""
    declared = [*options(RunConfig), *(o for kind in POLICY_SETTINGS.values() for o in options(kind))]
    return filter(_asked_again, declared)


def _asked_again(option: Option) -> bool:
    """Whether it may name code. An executor may too, but belongs to `of_place`."""
    return option.shown.code and option.name != "executor"


def takes(*groups: Iterable[Option], again: bool = False) -> Callable[[Command], Command]:
    """Decorate a command to take these options, which reach it as keyword arguments.

    again: the command continues a run; the help texts are those for that case.
    """

    def decorated(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        made = [_parameter(option, again) for group in groups for option in group]
        first = [p for p in own if p.default is p.empty]
        own = [*first, *made, *(p.replace(kind=p.KEYWORD_ONLY) for p in own if p not in first)]
        # Typer reads both attributes.
        command.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in own}
        return command

    return decorated


def _parameter(option: Option, again: bool) -> inspect.Parameter:
    shown = option.shown
    settings: dict[str, Any] = {"metavar": shown.metavar, "rich_help_panel": shown.panel}
    if again:
        settings["help"] = shown.resumed or AGAIN.format(option.name.rstrip("s").replace("_", " "))
        settings["rich_help_panel"] = None if _asked_again(option) else WORK
    else:
        settings["help"] = f"{option.help}{_default(option)}"
    kind: Any = option.type
    if get_origin(kind) in (dict, tuple):
        kind = list[str]
    elif option.choices:
        kind = StrEnum(option.name.title(), {choice.upper(): choice for choice in option.choices})
    elif option.text:
        kind = str
    elif kind in (int, float):
        settings |= {"min": option.least, "max": option.most}
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(option.flag, **settings)],
    )


def _default(option: Option) -> str:
    if option.shown.unset:
        return f" (Default: {option.shown.unset}.)"
    return "" if option.default in (None, Required, (), {}) else f" (Default: {option.default}.)"


def values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as `make_config` takes them. Raises UserError."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value == []:
            continue
        if name == "limits":
            found["limits"] = dict(parse_limit(text) for text in value)
        elif name == "policy_settings":
            _set(found, value)
        elif name == "data_root":
            found[name] = str(Path(os.path.expanduser(value)).absolute())
        else:
            found[name] = tuple(value) if isinstance(value, list) else _plain(value)
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


def _set(found: dict[str, Any], texts: Iterable[str]) -> None:
    """Add each NAME=VALUE of `texts` to the table that its prefix names; without a prefix, to the policy's settings."""
    tables = {"": "policy_settings", "sampler": "sampler_settings", "train": "train"}
    for text in texts:
        name, equals, value = text.partition("=")
        place, _, name = name.strip().rpartition(".")
        if not equals or not name or place not in tables:
            raise UserError(
                f'--set: "{text}" is not a setting; write NAME=VALUE, sampler.NAME=VALUE or train.NAME=VALUE'
            )
        try:
            read: Any = json.loads(value)
        except ValueError:
            read = value
        found.setdefault(tables[place], {})[name] = read
