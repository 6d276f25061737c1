"""Runs a tutorial page as its reader would: files are written, Python runs in one namespace, commands in a shell."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r'^```(python|console)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code of a page. line: where it stands, from 1."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of Python and of commands, in order."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        language, title, code = found.groups()
        yield Block(language, title, code, text.count("\n", 0, found.start()) + 2)


def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """Run all blocks of a page in `folder`, which is the current one; the names that its Python leaves."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.title is not None:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            code = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(code, str(page), "exec"), names)
        else:
            for line in block.text.splitlines():
                if line.startswith("$ "):
                    run_command(line.removeprefix("$ "))
    return names


def run_command(line: str) -> str:
    """What a command of ours prints, run in a process of its own. Fails with what it said where it fails."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "nas", f"{line}: only commands of nas are run"
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "nas", *arguments],
        capture_output=True, text=True, check=False, timeout=240, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout
