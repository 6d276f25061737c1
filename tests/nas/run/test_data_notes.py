"""What a search says about its data at the start, keeps with the run and passes on to workers and exports."""

import json
from collections.abc import Sequence
from pathlib import Path

from engine_support import Inline, tiny
from picture_support import classes, loaded

from nas.data import Augment
from nas.execute.worker import data_key, data_of
from nas.export import export_trial
from nas.run.events import Silent
from nas.run.lifecycle import search


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()

    def on_data(self, notes: Sequence[str]) -> None:
        self.notes = tuple(notes)


def test_the_data_are_described_at_the_start_in_the_run_and_in_its_export(tmp_path: Path) -> None:
    top = classes(tmp_path / "set", count=30)
    heard, run = Heard(), tmp_path / "run"
    config = tiny(
        data=f"imagefolder:{top}?size=8x12", generations=1, augment="shifts=1", train={"batch_size": 8}
    )
    search(config, run, heard, "", Inline)
    expected = loaded(top, "?size=8x12", augment="shifts=1")
    assert heard.notes == expected.notes
    kept = json.loads((run / "config.json").read_text())["config"]["data"]
    assert tuple(kept["notes"]) == expected.notes
    export_trial(run, None, tmp_path / "out")
    text = (tmp_path / "out" / "model.py").read_text()
    assert '"height": 8,' in text
    assert '"width": 12,' in text


def test_workers_augment_as_the_run_says() -> None:
    config = tiny(data="digits", augment="none")
    digest = loaded_digest()
    data = data_of(config, digest)
    assert not isinstance(data, str)
    assert data.augment == Augment(False, 0)
    assert data_key(config) != data_key(tiny(data="digits"))


def loaded_digest() -> str:
    from nas.data import load_search_data

    config = tiny(data="digits")
    return load_search_data("digits", None, config.seed, config.val_fraction).digest
