"""Menus: what the options of a move may hold. Each move class declares its own as `choices`."""

from collections.abc import Iterable, Mapping
from dataclasses import Field
from typing import Any, ClassVar, Protocol, cast

from morphs.errors import ParseError
from morphs.typed import conform, field_types

Choices = Mapping[str, Any]  # choice -> type of one value; ... for that of the move's field of this name
Menu = Mapping[str, Any]


class HasMenu(Protocol):
    """What `check_menu` needs of a move class."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    name: ClassVar[str]
    choices: ClassVar[Choices]


def check_menu(move: type[HasMenu], options: Any) -> Menu:
    """The menu `options` of `move`, each choice's values as a tuple of values of the declared type.

    Raises ParseError where it is not a mapping, names an unknown choice, or gives a choice no list of values, an empty
    one, or values of another type.
    """
    if not isinstance(options, Mapping):
        fact = f"options is of type {type(options).__name__}"
        raise ParseError(f'{move.name}: {fact}; give a mapping such as {{"how": ("zero",)}}')
    return {key: _values(move, key, values) for key, values in cast(Menu, options).items()}


def _values(move: type[HasMenu], key: Any, values: Any) -> tuple[Any, ...]:
    if key not in move.choices:
        known = ", ".join(move.choices)
        remedy = f"choose from {known}" if known else "leave out options, it has none"
        raise ParseError(f"{move.name}: its menu has no choice {key!r:.80}; {remedy}")
    place = f"{move.name}: choice {key}"
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ParseError(f"{place}: {values!r:.80} is not a list of values; write ({values!r:.80},)")
    given = tuple(cast(Iterable[Any], values))
    if not given:
        raise ParseError(f"{place}: it has no values; give one or more, or leave it out for the default")
    hint = field_types(move)[key] if move.choices[key] is ... else move.choices[key]
    try:
        return given if hint is Any else tuple(conform(value, hint) for value in given)
    except TypeError as error:
        raise ParseError(f"{place}: {error}") from None
