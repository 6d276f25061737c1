"""Parses durations and limits."""

import re

from nas.base.errors import UserError


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h or 45; UserError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|)\s*", text)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else 0.0
    if seconds <= 0:
        raise UserError(
            f'"{text}" is not a duration; write a positive number with s, m, h or d, like 90s or 10m'
        )
    return seconds


def seconds_of(value: object) -> object:
    """Seconds if `value` is the text of a duration; any other value unchanged."""
    return parse_duration(value) if isinstance(value, str) else value


def parse_limit(text: str) -> tuple[str, int]:
    """(name, most) of a limit such as params=2e6; UserError for anything else."""
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), int(float(value))
    except (ValueError, OverflowError):
        raise UserError(f'"{text}" is not a limit; write NAME=NUMBER, like params=2e6') from None
