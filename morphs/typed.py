"""Dataclass fields ⇄ JSON values: the one place that checks a document's values against type hints."""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)  # fmt: skip

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Positive = NewType("Positive", float)
WORDS = {
    Positive: "a positive number",
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
}
T = TypeVar("T", bound="DataclassInstance")


@cache
def field_types(cls: "type[DataclassInstance]") -> Mapping[str, Any]:
    """Resolved type hint of every field of the dataclass `cls`, in order."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def build(cls: type[T], values: Mapping[str, Any], partial: bool = False) -> T:
    """`cls(**values)` with every value checked; lists become tuples, integers serve as floats.

    With `partial`, fields that have defaults may be left out. Raises TypeError saying which field is wrong.
    """
    types = field_types(cls)
    unknown = set(values) - set(types)
    if unknown:
        raise TypeError(f"unknown field {', '.join(sorted(unknown))}; there are {', '.join(types) or 'none'}")
    missing = [
        f.name for f in fields(cls) if f.name not in values and not (partial and f.default is not MISSING)
    ]
    if missing:
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise TypeError(f"{', '.join(missing)} {are} missing; give {them}")
    checked: dict[str, Any] = {}
    for name, value in values.items():
        try:
            checked[name] = conform(value, types[name])
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
    return cls(**checked)


def conform(value: Any, hint: Any) -> Any:
    """`value` as a value of type `hint`; TypeError where it is not."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for option in args:
            try:
                return conform(value, option)
            except TypeError:
                continue
    elif origin is Literal:
        if isinstance(value, str) and value in args:
            return value
        raise TypeError(f"{_shown(value)} is not one of {', '.join(map(str, args))}; choose one of them")
    elif origin is tuple and isinstance(value, (list, tuple)):
        items = cast(list[Any], value)
        each = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
        if len(each) != len(items):
            raise TypeError(f"{_shown(value)} has not {len(each)} values; give {len(each)}")
        return tuple(conform(item, one) for item, one in zip(items, each, strict=True))
    elif hint is float and type(value) in (int, float):
        if abs(value) <= sys.float_info.max:  # neither infinite, NaN nor too large
            return float(value)
    elif hint is Positive:
        if (number := conform(value, float)) > 0:
            return number
    elif hint is NoneType and value is None:
        return None
    elif type(value) is hint:
        return value
    raise TypeError(f"{_shown(value)} is not {_in_words(hint)}; give one")


def _shown(value: Any) -> str:
    """`value` within one line."""
    return " ".join(repr(value).split())[:80]


def _in_words(hint: Any) -> str:
    """What `conform` takes for `hint`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(option) for option in args if option is not NoneType)
    if origin is Literal:
        return " or ".join(map(str, args))
    if origin is tuple:
        return "a list" if args[-1] is Ellipsis else f"a list of {len(args)}, such as [3, 3]"
    return WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}")
