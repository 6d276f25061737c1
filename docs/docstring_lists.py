"""A griffe extension: lines like `name: text` in our docstrings become a list, so that they read well as Markdown."""

import re
from typing import Any

from griffe import Extension, Object

# A term stands at the beginning of a line, or after a sentence that ends the term before it.
TERM = re.compile(r"(?:^|(?<=[.…)]) )(?!Source|Raises)([a-z_]\w*(?:, \w+)*): +(?=\S)")


def as_markdown(text: str) -> str:
    """`text` with paragraphs of the form `name: text` as lists. A line that begins with Raises or Source ends one."""
    paragraphs = re.split(r"\n\s*\n|\n(?=Raises|Source)", text)
    return "\n\n".join(_listed(paragraph) for paragraph in paragraphs)


def _listed(paragraph: str) -> str:
    lines = paragraph.splitlines()
    first = next((number for number, line in enumerate(lines) if TERM.match(line)), None)
    if first is None:
        return paragraph
    starts = [line if TERM.match(line) else line.strip() for line in lines[first:]]
    joined = ""
    for line in starts:
        joined += f"\n{line}" if TERM.match(line) else f" {line}"
    items = [item for line in joined.strip().split("\n") for item in _items(line)]
    return "\n".join([*lines[:first], "", *items])


def _items(line: str) -> list[str]:
    """The terms of a line as items of a list."""
    _, *parts = TERM.split(line)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [f"- {', '.join(f'`{n}`' for n in names.split(', '))}: {said.strip()}" for names, said in pairs]


class DocstringLists(Extension):
    """Rewrites every docstring once it is collected."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
