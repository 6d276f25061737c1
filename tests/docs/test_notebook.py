"""The notebook tutorial runs in a kernel of its own, as in Jupyter."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from docs_support import DOCS
from nbclient import NotebookClient

NOTEBOOK = DOCS / "tutorials" / "search-your-data.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a command fails, the next cell misses what it should have made."""
    commands = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    monkeypatch.setenv("PATH", os.pathsep.join(commands))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "exported" / "model.py").is_file()
    assert (tmp_path / "exported-too" / "model.py").is_file()


def test_it_is_kept_without_what_it_printed() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.outputs or cell.execution_count for cell in cells if cell.cell_type == "code")
