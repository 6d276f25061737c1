"""`nas.search(start=…)`, and what `nas search --from` says of a model that it can't start from."""

from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import nas
from nas.base.errors import UserError
from nas.cli.commands import app
from nas.registry.configure import configure

SMALL = {"data": "digits", "children": 1, "epochs": 0.1, "quiet": True, "workers": 1}


def model(classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))


def test_a_module_and_then_its_run_are_searched_from(tmp_path: Path) -> None:
    module = model()
    first = nas.search(start=module, generations=1, run=tmp_path / "first", **SMALL)
    weight = first.trial("0.0").record.job.training.weights
    assert weight is not None
    assert "start='Sequential'" in str(first.status.command)
    second = nas.search("nash", start=first, generations=0, run=tmp_path / "second", **SMALL)
    assert second.trial("0.0").record.job.graph == first.best.network.graph.to_json()
    assert nas.replay(second, run=tmp_path / "third", quiet=True).digest == second.digest


def test_a_trained_model_starts_at_a_lower_rate() -> None:
    rates = [configure("nash", {"data": "digits"}, trained=trained)[0].train.lr for trained in (False, True)]
    assert rates[1] < rates[0]
    given = {"data": "digits", "train": {"lr": 0.5}}
    assert configure("model", given, trained=True)[0].train.lr == 0.5


def test_an_optimizer_has_a_rate_and_a_weight_decay_of_its_own() -> None:
    def settings(trained: bool = False, **train: object) -> tuple[float, float]:
        given = {"data": "digits", "train": {"optimizer": "adamw", **train}}
        made = configure("residual", given, trained=trained)[0].train
        return made.lr, made.weight_decay

    assert settings() == (0.003, 0.05)
    assert settings(trained=True) == (0.0005, 0.05)
    assert settings(lr=0.2, weight_decay=0.0) == (0.2, 0.0)
    assert configure("residual", {"data": "digits"})[0].train.lr == 0.3


@pytest.mark.parametrize(
    ("start", "fact"),
    [
        (model(7), "10 classes"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 10)), "[2, 1, 8, 8]"),
        ("nowhere", "no model"),
        (3, "int"),
        (None, "no space"),
    ],
)
def test_what_can_not_be_started_from_is_told_in_a_line(start: object, fact: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        nas.search(start=start, generations=1, run=tmp_path / "run", **SMALL)  # type: ignore[arg-type]
    assert fact in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_command_needs_a_space_or_a_model_and_data() -> None:
    for args, fact in ((["search"], "missing argument"), (["search", "--from", "mine:net"], "data")):
        done = CliRunner().invoke(app, args, prog_name="nas")
        assert (done.exit_code, fact in done.output) == (2, True), done.output
