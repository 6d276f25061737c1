"""Settings, declared once: what the command line, recipes and the reference need to know about a field."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

SEARCH, WORK, OUTPUT = "What is searched", "How it is carried out", "Output"


class Required:
    """Marks a setting that has no default."""


@dataclass(frozen=True)
class Shown:
    """How the command line shows a field, besides its help (the field's `description`), default and range. A field
    without a `Shown` has no option.

    panel: the group on the help page; None: no option. flag: the option's name, if it differs from the field's.
    unset: what happens without the option, if the default doesn't say so. resumed: the help of commands that continue
    a run; only fields with it may change there. code: it may name code, as package.module:name; commands that continue
    a run ask for it again.
    """

    panel: str | None = SEARCH
    metavar: str | None = None
    flag: str | None = None
    unset: str | None = None
    resumed: str | None = None
    code: bool = False


@dataclass(frozen=True)
class Option:
    """A declared setting.

    type: its annotation without None. least, most, above, below: its range, if it has one.
    """

    name: str
    type: Any
    default: Any
    help: str
    shown: Shown
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    text: bool = False  # whether it is written as text with a unit, as a duration

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return self.shown.flag or f"--{self.name.replace('_', '-')}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts allowed; empty if any value of its type is."""
        return tuple(map(str, get_args(self.type))) if get_origin(self.type) is Literal else ()

    @property
    def kind(self) -> str:
        """The type in words."""
        if self.text:
            return "duration"
        words: dict[Any, str] = {
            int: "whole number",
            float: "number",
            bool: "true or false",
            dict: "table",
            tuple: "list",
        }
        return words.get(get_origin(self.type) or self.type, "text")

    @property
    def range(self) -> str:
        """The range in words; empty if any value of its type is allowed."""
        if self.choices:
            return ", ".join(self.choices)
        low = f"from {self.least:g}" if self.least is not None else ""
        low = f"above {self.above:g}" if self.above is not None else low
        high = f"to {self.most:.10g}" if self.most is not None else ""
        high = f"below {self.below:.10g}" if self.below is not None else high
        return " ".join(part for part in (low, high) if part)


def options(declared: type[Any]) -> tuple[Option, ...]:
    """The settings that a pydantic model or a dataclass declares, in order."""
    return tuple(_option(name, info) for name, info in _declared(declared).items())


def _declared(declared: type[Any]) -> dict[str, FieldInfo]:
    if not is_dataclass(declared):
        return cast(type[BaseModel], declared).model_fields
    hints = get_type_hints(declared, include_extras=True)
    return {
        field.name: FieldInfo.from_annotated_attribute(hints[field.name], field.default)
        for field in fields(declared)
    }


def _option(name: str, info: FieldInfo) -> Option:
    bounds: dict[str, Any] = {}
    shown = Shown(panel=None)
    for note in info.metadata:
        match note:
            case Shown():
                shown = note
            case Ge(ge=number):
                bounds["least"] = number
            case Le(le=number):
                bounds["most"] = number
            case Gt(gt=number):
                bounds["above"] = number
            case Lt(lt=number):
                bounds["below"] = number
            case BeforeValidator():
                bounds["text"] = True
            case _:
                pass
    default = Required if info.is_required() else info.get_default(call_default_factory=True)
    return Option(name, _without_none(info.annotation), default, info.description or "", shown, **bounds)


def _without_none(annotation: Any) -> Any:
    """`annotation` without None, if it is one type or None."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    return parts[0] if NoneType in get_args(annotation) and len(parts) == 1 else annotation
