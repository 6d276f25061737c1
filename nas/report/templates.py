"""The page's templates: all text that comes from a run is escaped and made printable."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nas.base.text import count, percent, printable, span
from nas.ledger.scores import called, change_text, value_text


def fill(name: str, **values: Any) -> str:
    """Return the template `name` with its values filled in."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nas.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=_finished,
    )  # fmt: skip
    filters: dict[str, Callable[..., str]] = {
        "percent": percent, "count": count, "span": _span, "drift": _drift, "ratio": _ratio,
        "value": _value, "change": _change, "called": called, "number": _number,
    }  # fmt: skip
    environment.filters.update(filters)
    return environment


def _finished(value: Any) -> Any:
    """Make a text of the page printable; markup is ours."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else span(seconds)


def _drift(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.1e}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _ratio(number: float, base: float) -> str:
    """Format `number` / `base` with at least two digits."""
    return f"{number / base:.1f}" if number < 20 * base else count(number / base)


def _value(value: float | None, score: str) -> str:
    return value_text(score, value)


def _change(change: float | None, score: str) -> str:
    return change_text(score, change)
