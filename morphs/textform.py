"""The text form shared by graphs and moves: `name(key=value, …)`.

Values are JSON scalars, dotted bare words, or lists in brackets. Nothing is evaluated.
"""

import json
import re
from typing import Any

WORD = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
JSON_WORDS = frozenset(("true", "false", "null", "NaN", "Infinity"))  # strings like these are quoted
DEEPEST = 8  # of lists in lists
CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.ASCII | re.DOTALL)


def format_value(value: Any) -> str:
    """A value in the text form: a bare word where it reads back as the same string, else JSON."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(item) for item in value) + "]"  # pyright: ignore
    if isinstance(value, str) and WORD.fullmatch(value) and value not in JSON_WORDS:
        return value
    return json.dumps(value, allow_nan=False)


def format_call(name: str, positional: list[str], keywords: dict[str, Any]) -> str:
    """`name(positional…, key=value…)`."""
    return f"{name}({', '.join(positional + [f'{k}={format_value(v)}' for k, v in keywords.items()])})"


def parse_call(text: str) -> tuple[str, list[Any], dict[str, Any]]:
    """(name, positional values, keyword values). Raises ValueError with the reason."""
    match = CALL.fullmatch(text)
    if match is None:
        if text.count("(") > text.count(")"):
            raise ValueError("a bracket is not closed, so it has not the form name(key=value, …); close it")
        raise ValueError("it has not the form name(key=value, …); write it so")
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for part in split(match[2], ","):
        key, equals, value = part.partition("=")
        if not equals:
            positional.append(parse_value(part))
        elif not WORD.fullmatch(key.strip()) or key.strip() in keywords:
            raise ValueError(
                f"{key.strip()!r} is not a key, or is given twice; give each once, in letters, digits and underscores"
            )
        else:
            keywords[key.strip()] = parse_value(value)
    return match[1], positional, keywords


def parse_value(text: str, depth: int = 0) -> Any:
    """A JSON scalar, a bare word (as a string), or a list in brackets. Raises ValueError."""
    text = text.strip()
    if text.startswith("["):
        if not text.endswith("]") or depth == DEEPEST:
            raise ValueError(
                f"{text[:80]!r} is not a list, or is nested more than {DEEPEST} deep; write [1, 2]"
            )
        return [parse_value(part, depth + 1) for part in split(text[1:-1], ",")]
    if WORD.fullmatch(text) and text not in JSON_WORDS:
        return text
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError(
            f"{text[:80]!r} is neither a JSON value nor a bare word; put a text in double quotes"
        ) from None
    if isinstance(value, (dict, list)):
        raise ValueError(f"{text[:80]!r} is not a scalar; write a number, a word, true, false or null")
    return value


def refuse_constant(word: str) -> None:
    """For json.loads: NaN and infinities are not JSON. Raises ValueError."""
    raise ValueError(f"{word} is not a JSON number; give a finite number")


def split(text: str, separator: str) -> list[str]:
    """`text` cut at separators outside brackets and quotes; an empty text has no parts."""
    parts: list[str] = []
    depth, start, quoted, escaped = 0, 0, False, False
    for place, char in enumerate(text):
        if quoted:
            quoted = char != '"' or escaped
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    last = text[start:]
    return [*parts, last] if parts or last.strip() else []
