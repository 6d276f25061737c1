"""Final trainings that learn from the validation examples too."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_support import Inline, tiny
from picture_support import classes

from nas.api.models import starting
from nas.config.run_config import FITTED
from nas.data import Split, StreamSplit, ValueSplit, load_search_data
from nas.data.join import joined, with_validation
from nas.export.trial import trial_network
from nas.inspect.status import run_status
from nas.ledger import Store
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import load_data, replay, search
from nas.run.longer import More, longer
from nas.run.suited import suited_data


def searched(run: Path, **changes: Any) -> Outcome:
    return search(tiny(generations=1, **changes), run, Silent(), "nas search", Inline)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Two searches that differ in the examples of their final training."""
    top = tmp_path_factory.mktemp("final")
    return {which: searched(top / which, final_data=which) for which in ("train", "all")}


def test_the_score_is_that_of_the_network_before_it(runs: dict[str, Outcome]) -> None:
    view = runs["all"].view
    assert view.final is not None
    assert view.final.result is not None
    parent = view.trial(str(view.final.job.parent)).result
    assert parent is not None
    assert view.final.result.value == parent.value
    assert view.final.result.scores["val_loss"] == parent.scores["val_loss"]
    assert view.final.result.tested is not None


def test_only_the_final_network_differs(runs: dict[str, Outcome]) -> None:
    one, other = (runs[which].view for which in ("train", "all"))
    pairs = zip(one.searched, other.searched, strict=True)
    assert all(a.result is not None and b.result is not None for a, b in pairs)
    assert [r.result.weights for r in one.searched if r.result] == [
        r.result.weights for r in other.searched if r.result
    ]
    assert one.final is not None
    assert other.final is not None
    assert one.final.result is not None
    assert other.final.result is not None
    assert one.final.job.steps == other.final.job.steps
    assert one.final.result.weights != other.final.result.weights


def test_it_is_said_and_an_export_claims_no_score_on_them(runs: dict[str, Outcome]) -> None:
    said = {which: " ".join(run_status(found.run).remarks) for which, found in runs.items()}
    assert "validation examples" in said["all"]
    assert "validation examples" not in said["train"]
    cards = {which: trial_network(found.run, None)[1] for which, found in runs.items()}
    assert {score.split for score in cards["train"].scores} >= {"val", "test"}
    assert "val" not in {score.split for score in cards["all"].scores}
    assert cards["all"].lineage[-1].value is None


def test_it_is_replayed(runs: dict[str, Outcome], tmp_path: Path) -> None:
    again = replay(runs["all"].run, tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == runs["all"].view.digest


def test_a_longer_search_starts_from_the_network_before_it(runs: dict[str, Outcome], tmp_path: Path) -> None:
    """The final network would be judged by examples that it has learned from."""
    more = longer(runs["all"].run, tmp_path / "more", More(generations=1), Silent(), "", executor=Inline)
    final = runs["all"].view.final
    assert final is not None
    parent = runs["all"].view.trial(str(final.job.parent)).result
    assert parent is not None
    assert more.view.trial("0.0").job.training.weights == parent.weights
    data = load_data(tiny())
    stored = Store(runs["all"].run / "checkpoints")
    assert starting(str(runs["all"].run))(data).digest == stored.get(parent.weights).digest
    assert final.result is not None
    other = starting(str(runs["all"].run))(replace(data, digest="0" * 64))
    assert other.digest == stored.get(final.result.weights).digest


def test_few_examples_that_were_held_out_are_learned_from_in_the_end() -> None:
    data = load_search_data("digits", None, 0, 0.1)
    assert suited_data(tiny(fitted=FITTED), data).final_data == "all"
    assert suited_data(tiny(), data).final_data == "train"
    assert suited_data(tiny(fitted=FITTED, cost=1e9), data).final_data == "train"
    assert suited_data(tiny(fitted=FITTED), replace(data, held_out=False)).final_data == "train"


def test_splits_are_joined(tmp_path: Path) -> None:
    digits = load_search_data("digits", None, 0, 0.1)
    both = with_validation(digits).train
    assert isinstance(both, Split)
    assert isinstance(digits.val, Split)
    assert len(both) == len(digits.train) + len(digits.val)
    assert torch.equal(both.images[-1], digits.val.images[-1])
    assert torch.equal(both.labels[-len(digits.val) :], digits.val.labels)

    files = load_search_data(f"imagefolder:{classes(tmp_path, count=12)}", None, 0)
    streamed = joined(files.train, files.val)
    assert isinstance(streamed, StreamSplit)
    assert isinstance(files.val, StreamSplit)
    last = len(streamed) - 1
    assert torch.equal(streamed.read([last]), files.val.read([len(files.val) - 1]))
    assert torch.equal(streamed.subset(torch.tensor([last, 0])).read([0]), streamed.read([last]))

    rows = ValueSplit(torch.arange(6.0).reshape(3, 2), torch.arange(3))
    twice = joined(rows, rows)
    assert isinstance(twice, ValueSplit)
    assert torch.equal(twice.inputs, torch.cat([rows.inputs] * 2))
    with pytest.raises(TypeError):
        joined(rows, both)
