"""Searches that start from a trained model: what the run keeps, and what it makes of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_support import Inline, Recorder, tiny
from torch import nn

import morphs
from morphs import Network
from nas.base.errors import LedgerDamaged, UserError
from nas.config.run_config import RunConfig
from nas.data import SearchData
from nas.inspect.fsck import check
from nas.inspect.repair import repair
from nas.ledger import Store
from nas.run.events import Outcome, Silent
from nas.run.lifecycle import replay, resume, search


def model(classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, classes),
    )  # fmt: skip


GIVEN = morphs.from_torch(model(), torch.randn(2, 1, 8, 8))


def given(data: SearchData) -> Network:
    assert data.input_shape == (1, 8, 8)
    return GIVEN


def from_model(**changes: object) -> RunConfig:
    return tiny(**{"space": "model", "keep": "best:1", "moves_per_child": 1, **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return search(from_model(), tmp_path_factory.mktemp("start") / "run", Silent(), "", Inline, start=given)


def test_it_begins_with_the_models_weights(run: Outcome) -> None:
    seed = run.view.trial("0.0")
    digest = GIVEN.digest
    assert seed.job.training.weights == digest
    assert seed.result is not None
    assert {"given_accuracy", "given_loss", "val_accuracy"} <= seed.result.scores.keys()
    assert Store(run.run / "checkpoints").get(digest).graph == GIVEN.graph
    assert any(record.job.moves for record in run.view.trials)
    assert check(run.run).clean


def test_it_needs_nothing_else_to_resume_or_replay(run: Outcome, tmp_path: Path) -> None:
    again = replay(run.run, tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == run.view.digest
    stopped = search(from_model(), tmp_path / "stopped", Recorder(stop_after=2), "", Inline, start=given)
    assert stopped.stopped == "interrupted"
    shutil.move(tmp_path / "stopped", tmp_path / "moved")
    assert resume(tmp_path / "moved", Silent(), executor=Inline).view.digest == run.view.digest


def test_a_lost_start_is_told_and_the_rest_is_made_from_it(run: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.run, copy)
    store, digest = Store(copy / "checkpoints"), GIVEN.digest
    assert run.best.result is not None
    store.remove(run.best.result.weights)
    assert repair(copy, check(copy), (), None, lambda done, total: None).clean
    store.remove(digest)
    assert [(f.what, f.state) for f in check(copy).findings if f.damage] == [("start", "missing")]


def test_fresh_weights_are_a_baseline_of_the_same_architecture(tmp_path: Path) -> None:
    config = from_model(weights="fresh", generations=0)
    done = search(config, tmp_path / "run", Silent(), "", Inline, start=given)
    seed = done.view.trial("0.0")
    assert seed.job.training.weights is None
    assert seed.job.graph == GIVEN.graph.to_json()


def test_another_spaces_moves_can_be_used(tmp_path: Path) -> None:
    config = from_model(space="nash", generations=1)
    done = search(config, tmp_path / "run", Silent(), "", Inline, start=given)
    assert done.view.trial("0.0").job.graph == GIVEN.graph.to_json()


MISFITS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "size": (model, (1, 12, 12), "images of digits are"),
    "colours": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), (3, 8, 8), "images of digits are"),
    "classes": (lambda: model(classes=7), (1, 8, 8), "digits has 10 classes"),
    "map": (lambda: nn.Sequential(nn.Conv2d(1, 10, 3)), (1, 8, 8), "digits has 10 classes"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_model_that_does_not_fit_the_data_is_refused(name: str, tmp_path: Path) -> None:
    make, shape, fact = MISFITS[name]

    def start(_: SearchData) -> Network:
        return morphs.from_torch(make(), torch.randn(2, *shape))

    with pytest.raises(UserError, match=fact) as caught:
        search(from_model(), tmp_path / "run", Silent(), "", Inline, start=start)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_space_of_a_model_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--from"):
        search(from_model(), tmp_path / "run", Silent(), "", Inline)


def test_a_damaged_start_is_not_used(run: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.run, copy)
    weights = copy / "checkpoints" / GIVEN.digest / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(LedgerDamaged):
        replay(copy, tmp_path / "again", Silent(), "", executor=Inline)
