"""Standard output and error, whatever they are: closed, full, of a terminal that shows ASCII only."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress
from typing import TextIO

PLAIN = "nas-plain"  # an error handler of codecs
_WORDS = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": ".", "×": "x", "→": "->", "≤": "<=", "≥": ">=", "━": "-", "─": "-",
    "╸": "-", "╺": "-", "│": "|", "“": '"', "”": '"', "’": "'", "\u00a0": " ",
}  # fmt: skip


def encodable(text: str, stream: TextIO) -> str:
    """`text`, with what the stream can't show replaced by ASCII."""
    codecs.register_error(PLAIN, _plain)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, PLAIN).decode(encoding)


def open_standard_descriptors() -> None:
    """Make the three standard descriptors exist: a daemon may be started with them closed.

    Otherwise the next file that is opened, such as a database or a pipe to a worker, would be "standard output" to
    every process that is started.
    """
    with suppress(OSError):
        for descriptor in range(3):
            try:
                os.fstat(descriptor)
            except OSError:
                opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
                os.set_inheritable(opened, True)


def prepare_streams() -> None:
    """Make both output streams exist and take any text. For a command: it changes the streams of the process."""
    open_standard_descriptors()
    codecs.register_error(PLAIN, _plain)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False))  # noqa: SIM115
        with suppress(AttributeError, OSError, ValueError):  # a stream that is not a file has no such method
            getattr(sys, name).reconfigure(errors=PLAIN)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what can't be encoded by ASCII: our own signs by words, all else by its escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    plain = "".join(_WORDS.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in bad)
    return plain, error.end
