"""The jinja2 templates of this package."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, values: dict[str, Any]) -> str:
    """The text of a template file of this package; an undefined name in it is an error."""
    environment = Environment(
        loader=PackageLoader("nas.export", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(plain=plain, code=code)
    return environment.get_template(template).render(values)


def plain(text: object) -> str:
    """Text on one line, with what Markdown and HTML would read as markup made harmless."""
    line = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#&~" else letter for letter in line)


def code(text: object) -> str:
    """Text as inline code on one line, whatever backticks it holds."""
    line = " ".join(str(text).split())
    runs = "".join(letter if letter == "`" else " " for letter in line).split()
    fence = "`" * (1 + max(map(len, runs), default=0))
    return f"{fence} {line} {fence}" if runs else f"{fence}{line}{fence}"
