"""A run carried on where other workers are, or where its data lie elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_support import TINY, Inline, Recorder, tiny
from PIL import Image
from typer.testing import CliRunner

from nas.base.errors import DataError, RunError, UserError
from nas.cli.commands import app
from nas.config.relocate import relocated
from nas.config.run_config import RunConfig
from nas.ledger import current_versions, read_config
from nas.ledger.described import described_from
from nas.run.events import Silent
from nas.run.lifecycle import changes_since, resume, search

Copy = Callable[[Path], Path]


def test_more_workers_on_another_machine_decide_the_same(
    finished: Any, interrupted: Path, copy_of: Copy
) -> None:
    run, told = copy_of(interrupted), list[RunConfig]()

    def executor(run: Path, config: RunConfig, digest: str) -> Inline:
        told.append(config)
        return Inline(run, config, digest)

    place = {"workers": 3, "data_root": "/elsewhere"}
    outcome = resume(run, Silent(), executor=executor, place=place)
    assert outcome.view.digest == finished.outcome.view.digest
    assert (told[0].workers, told[0].data_root) == (3, "/elsewhere")
    assert read_config(run).config["config"]["workers"] == 1  # the run's own record stays
    assert not outcome.view.notes.forced


def test_the_settings_of_a_former_executor_are_forgotten() -> None:
    there = tiny(executor="ray", address="auto", storage="/shared", workers=9)
    here = relocated(there, {"executor": "local", "workers": 2})
    assert here == tiny(executor="local", workers=2)
    assert relocated(there, {"workers": 3}) == there.model_copy(update={"workers": 3})
    with pytest.raises(UserError, match=r"address .*--executor ray"):
        relocated(here, {"address": "auto"})


def pictures(folder: Path, seed: int) -> str:
    draw = np.random.default_rng(seed)
    for label in ("black", "white"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            grey = draw.integers(0, 100, (8, 8, 1)) + (150 if label == "white" else 0)
            Image.fromarray(np.repeat(grey, 3, 2).astype(np.uint8)).save(folder / label / f"{number}.png")
    return f"imagefolder:{folder}"


def test_images_that_lie_elsewhere_now_are_the_same_data_and_others_are_not(tmp_path: Path) -> None:
    there, run = tmp_path / "there", tmp_path / "run"
    config = tiny(data=pictures(there, 0), generations=1, val_fraction=0.2, train={"batch_size": 8})
    search(config, run, Recorder(stop_after=1), "", Inline)
    here = there.rename(tmp_path / "here")
    with pytest.raises(DataError, match="there"):
        resume(run, Silent(), executor=Inline)
    with pytest.raises(RunError, match="content of the data set was"):
        resume(run, Silent(), data=pictures(tmp_path / "others", 1), executor=Inline)
    with pytest.raises(RunError, match=r"searches on imagefolder:.*there, not on digits"):
        resume(run, Silent(), data="digits", executor=Inline)
    assert resume(run, Silent(), data=f"imagefolder:{here}", executor=Inline).test is not None


def test_another_accelerator_matters_where_it_trains() -> None:
    machine = {"processor": "p", "capability": "c", "accelerator": "H100"}
    data = {"digest": "ab" * 32}
    other = {"machine": {**machine, "accelerator": "H200"}, "data": data}
    for device, expected in (("cpu", []), ("cuda", ["accelerator was H100 and is H200"])):
        before = described_from({"config": {**TINY, "device": device}, "machine": machine, "data": data})
        found = changes_since(before, other, current_versions())
        assert found == expected


def test_the_command_takes_them(finished: Any, copy_of: Copy) -> None:
    run = copy_of(finished.run)
    place = ["--executor", "local", "--workers", "2", "--data-root", "/elsewhere"]
    done = CliRunner().invoke(app, ["resume", str(run), *place, "--quiet"], prog_name="nas")
    assert (done.exit_code, done.stderr) == (0, "")
    wrong = CliRunner().invoke(app, ["fsck", str(run), "--data-root", "/elsewhere"], prog_name="nas")
    assert wrong.exit_code == 2
    assert "add --repair" in wrong.stderr
