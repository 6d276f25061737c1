"""The state file of an experiment that resumes: one line of JSON for each result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read(state: Path) -> list[Record]:
    """The lines of the state file; one cut short by a crash is no result."""
    records: list[Record] = []
    for text in state.read_text().splitlines() if state.exists() else ():
        try:
            records.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return records


def append(state: Path, record: Record) -> None:
    """One more line, on disk before we go on."""
    state.parent.mkdir(parents=True, exist_ok=True)
    torn = state.exists() and not state.read_bytes().endswith(b"\n") and state.stat().st_size > 0
    with state.open("a") as file:
        file.write(("\n" if torn else "") + json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())
