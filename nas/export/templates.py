"""The jinja2 templates of this package."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nas.base.text import printable


def render(template: str, values: dict[str, Any]) -> str:
    """Render a template file of this package; an undefined name in it is an error."""
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
    """Return the text on one line, with the characters of Markdown and HTML markup escaped."""
    line = printable(" ".join(str(text).split()))
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#&~" else letter for letter in line)


def code(text: object) -> str:
    """Return the text as inline code on one line, whatever backticks it contains."""
    line = printable(" ".join(str(text).split()))
    runs = "".join(letter if letter == "`" else " " for letter in line).split()
    fence = "`" * (1 + max(map(len, runs), default=0))
    return f"{fence} {line} {fence}" if runs else f"{fence}{line}{fence}"
