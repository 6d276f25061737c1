"""Parses durations and limits."""

import re

from nas.base.errors import UserError

UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
SIZES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 90s, 10m, 1.5h, 1h30m or 45; UserError for anything else."""
    number = r"(\d+(?:\.\d+)?)"
    parts = "".join(rf"(?:{number}\s*{unit}\s*)?" for unit in UNITS)
    match = re.fullmatch(rf"\s*(?:{parts}|{number}\s*)", text)
    found = zip((*UNITS.values(), 1.0), match.groups() if match else (), strict=False)
    seconds = sum(float(value) * unit for unit, value in found if value)
    if seconds <= 0:
        raise UserError(
            f'"{text}" is not a duration; write a positive number with s, m, h or d, like 90s, 10m or 1h30m'
        )
    return seconds


def seconds_of(value: object) -> object:
    """Seconds if `value` is the text of a duration; any other value unchanged."""
    return parse_duration(value) if isinstance(value, str) else value


def parse_limit(text: str) -> tuple[str, int]:
    """(name, most) of a limit such as params=2e6, params=20k or macs=1.5M; UserError for anything else."""
    name, equals, value = text.partition("=")
    number, size = value.strip(), 1.0
    if number[-1:].lower() in SIZES and number[-1:]:
        number, size = number[:-1], SIZES[number[-1].lower()]
    try:
        if not equals:
            raise ValueError
        return name.strip(), round(float(number) * size)
    except (ValueError, OverflowError):
        raise UserError(
            f'"{text}" is not a limit; write NAME=NUMBER, like params=2e6 or params=20k'
        ) from None
