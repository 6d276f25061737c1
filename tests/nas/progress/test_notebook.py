"""The picture in a notebook: one output that is drawn anew, and a kernel's real display of it."""

from pathlib import Path

import pytest
from cli_support import Hand, config, failed, job, seed_job, told, view

from nas.progress.notebook import PERIOD, Notebook
from nas.progress.state import RunProgress
from nas.progress.views import BarsView


def shown(clock: Hand) -> tuple[BarsView, list[str]]:
    pictures: list[str] = []
    progress = RunProgress(clock)
    return BarsView(Notebook(pictures.append, progress), progress), pictures


def test_bars_while_it_runs_and_lines_when_it_has_ended() -> None:
    clock = Hand()
    watcher, pictures = shown(clock)
    watcher.on_run_start(Path("folder/x"), config(), view(), False)
    watcher.on_generation_start(0, [seed_job()])
    clock.now += PERIOD
    watcher.on_step("0.0", 50, 100, 0.5)
    assert "step 50/100" in pictures[-1]
    watcher.on_trial_end(told(seed_job(), 0.8))
    watcher.on_generation_end(0, told(seed_job(), 0.8))
    watcher.on_trial_end(failed(job(1, 1), "it <b>burst</b>"))
    watcher.close()
    watcher.close()
    assert "whole run" not in pictures[-1]
    assert "generation 0: best 0.0" in pictures[-1]
    assert "<b>" not in "".join(pictures)
    before = len(pictures)
    watcher.on_step("0.0", 51, 100, 0.5)
    assert len(pictures) == before


def test_it_is_not_drawn_more_often_than_people_look() -> None:
    clock = Hand()
    watcher, pictures = shown(clock)
    watcher.on_run_start(Path("folder/x"), config(), view(), False)
    watcher.on_generation_start(0, [seed_job()])
    before = len(pictures)
    for step in range(100):
        clock.now += PERIOD / 20
        watcher.on_step("0.0", step, 100, 0.5)
    assert 4 <= len(pictures) - before <= 6


CELL = """
from nas.progress.choose_view import watching
from cli_support import config, seed_job, told, view
with watching(False) as watcher:
    watcher.on_run_start("folder/x", config(), view(), False)
    watcher.on_generation_start(0, [seed_job()])
    watcher.on_generation_end(0, told(seed_job(), 0.8))
"""


def test_a_kernel_shows_it_in_one_output(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    root = Path(__file__).parents[3]
    paths = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'tests')!r}]"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (paths, CELL)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[1].outputs
    assert "generation 0: best 0.0" in output.data["text/html"]
