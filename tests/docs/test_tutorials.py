"""The tutorials run as they are written."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_support import DOCS, blocks, run_page

PAGES = [
    DOCS.parent / "README.md",
    *sorted((DOCS / "tutorials").glob("*.md")),
    DOCS / "concepts" / "graphs.md",
    DOCS / "guides" / "python.md",
]
LONGEST = 30  # lines of an extension, without empty ones


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, from which modules can be imported; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, folder: Path) -> None:
    assert run_page(page, folder)


def test_every_extension_takes_at_most_thirty_lines() -> None:
    files = {block.title: block.text for block in blocks(DOCS / "tutorials" / "extend.md") if block.title}
    assert {"my_move.py", "my_space.py", "greedy.py", "my_data.py"} <= files.keys()
    long = {
        name for name, text in files.items() if len([line for line in text.splitlines() if line]) > LONGEST
    }
    assert not long
