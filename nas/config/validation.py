"""One-line errors for settings: fact and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nas.base.errors import UserError
from nas.config.option import options

M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], values: Mapping[str, Any]) -> M:
    """Validate `values` as a `model`. Raises UserError with one line that names the field."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(f"configuration: {first_fault(error, model)}") from None
    except UserError as error:
        raise UserError(f"configuration: {error}") from None


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """The first validation error, as fact and remedy."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        inner: Any = model.model_fields[str(first["loc"][0])].annotation if "." in where else None
        known = () if inner is None else options(inner)
        name = where.rpartition(".")[2]
        return unknown("setting", where, [option.name for option in known] or model.model_fields, name)
    message = str(first["msg"])
    if first["type"] == "value_error":  # our own message, which is complete
        return message.removeprefix("Value error, ")
    if first["type"] == "missing":
        return f'the setting "{where}" is missing; give it (--{where.replace("_", "-")})'
    return f"{where or 'it'}: {message[:1].lower()}{message[1:]}, not {first['input']!r:.60}"


def unknown(what: str, name: str, known: Iterable[str], like: str | None = None) -> str:
    """The message that there is no `what` called `name`, with a suggestion. like: the name without its prefix."""
    listed = list(known)
    near = difflib.get_close_matches(like or name, listed, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(listed)}"
    return f'there is no {what} "{name}"; {hint}'
