"""A griffe extension: lines like `name: text` in our docstrings become a list, so that they read well as Markdown."""

import re
from typing import Any

from griffe import Extension, Object

TERM = re.compile(r"^(?P<terms>\w+(?:, \w+)*): +(?P<text>\S.*)$")


def as_markdown(text: str) -> str:
    """`text` with each `name: text` at the start of a line as a list item, continued by the lines after it."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        found = TERM.match(line)
        if found and found["terms"] not in ("Source", "Raises"):
            if not inside:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in found["terms"].split(", "))
            lines.append(f"- {names}: {found['text']}")
            inside = True
        elif inside and line.startswith(("Raises", "Source")):
            lines += ["", line]
            inside = False
        else:
            inside = inside and bool(line.strip())
            lines.append(f"  {line.strip()}" if inside else line)
    return "\n".join(lines)


class DocstringLists(Extension):
    """Rewrites every docstring once it is collected."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
