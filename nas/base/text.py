"""Formatting of numbers, text and commands for people."""

import shlex
import unicodedata
from pathlib import Path


def span(seconds: float) -> str:
    """Format a duration: 4.2s, 42s, 2:31, 1:02:31."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(share: float | None, digits: int = 2) -> str:
    """Format a fraction as a percentage, 97.31 %; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def count(number: float | None) -> str:
    """Format a number, rounded, with separators: 12,345; a dash for None."""
    return "–" if number is None else f"{round(number):,}"


def plural(number: int, noun: str) -> str:
    """Format a number with its noun: 1 child, 2 children, 3 trials."""
    many = {"child": "children", "loss": "losses"}.get(noun, f"{noun}s")
    return f"{count(number)} {noun if number == 1 else many}"


def size(bytes_: int) -> str:
    """Format bytes in the unit that fits: 812 B, 3.4 MB, 1.2 GB (decimal units)."""
    value = float(bytes_)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def clip(text: str, width: int) -> str:
    """Shorten `text` to at most `width` characters; an ellipsis replaces the end of a longer text."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def one_line(text: str) -> str:
    """Return `text` on one line; a traceback is reduced to its last line."""
    head, found, trace = text.partition("Traceback (most recent call last):")
    last = trace.strip().splitlines()[-1:] if found else []
    return " ".join(" ".join([head, *last]).split())


def cost_text(objective: str, value: float) -> str:
    """Format the cost of a network with its unit."""
    return f"{1000 * value:.3f} ms" if objective == "latency" else f"{count(value)} {objective}"


def printable(text: str) -> str:
    """Return `text` with everything that a terminal acts on, or doesn't show, as an escape such as \\x1b.

    Spaces of all kinds, tabs and newlines stay. Control and format characters, which write the clipboard, clear the
    screen or reverse the order of a line, come from file names and files of other people's runs.
    """
    if text.isprintable():
        return text
    return "".join(sign if _harmless(sign) else ascii(sign)[1:-1] for sign in text)


def _harmless(sign: str) -> bool:
    return sign.isprintable() or sign in "\n\t" or unicodedata.category(sign) == "Zs"


def nas_command(*words: str | Path) -> str:
    """Return a command that a shell takes as it is: `nas` and `words`, each quoted where that is needed."""
    given = (
        f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words
    )
    return shlex.join(["nas", *given])
