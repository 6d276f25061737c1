"""Settings that suit the data, where nobody gave them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_support import Inline, tiny
from picture_support import classes

import nas
from morphs import Limits
from nas.config.run_config import FITTED, RunConfig
from nas.data import SearchData, ValueSplit, load_search_data
from nas.data.augment import NONE
from nas.data.task import task_of
from nas.ledger import read_config
from nas.registry.configure import make_config
from nas.run.events import Silent
from nas.run.length import BEYOND, LENGTHS, LONGEST, measured, with_length
from nas.run.lifecycle import replay, search
from nas.run.pacing import LEAST_STRETCH, MOST_CHILDREN, limits_told, pace_of_few, pace_told, paced
from nas.run.suited import suited_batches, suited_data, warmed
from search_spaces.mlp import mlp


def free(**given: Any) -> RunConfig:
    return tiny(**{"fitted": FITTED, **given})


def values(count: int, noise: float, seed: int = 0) -> SearchData:
    """Ten numbers each, of which one decides the target, and noise."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 10, generator=draw)
    targets = inputs[:, :1] + noise * torch.randn(count, 1, generator=draw)
    parts = [ValueSplit(inputs[a:b], targets[a:b]) for a, b in ((0, 4 * count // 5), (4 * count // 5, count))]
    task = task_of(None, parts[0].labels, ("value",))
    return SearchData("values", *parts, task.outputs, (0.0,) * 10, (1.0,) * 10, NONE, "", task=task)


def test_few_examples_are_validated_by_more_of_them() -> None:
    data = load_search_data("digits", None, 0, 0.1)
    few = replace(data, train=data.train.subset(torch.arange(270)), val=data.val.subset(torch.arange(30)))
    assert suited_data(free(), few).val_fraction == 0.25
    assert suited_data(free(), data).val_fraction == 0.1
    assert suited_data(free(), replace(few, held_out=False)).val_fraction == 0.1
    assert suited_data(tiny(), few).val_fraction == 0.1


def test_few_images_are_shifted_unless_their_set_says_how_they_change() -> None:
    data = load_search_data("digits", None, 0, 0.1)
    large = replace(
        data, augment=NONE, train=replace(data.train, images=torch.zeros(1, 1, 28, 28, dtype=torch.uint8).expand(
            len(data.train), 1, 28, 28))
    )  # fmt: skip
    assert suited_data(free(), large).augment == "shifts=2"
    assert suited_data(free(), data).augment is None
    assert suited_data(tiny(), large).augment is None
    assert suited_data(free(), values(50, 1.0)).augment is None


def test_batches_and_warm_up_suit_the_number_of_examples() -> None:
    sizes = [suited_batches(free(), count).train.batch_size for count in (20, 180, 500, 1000, 10**6)]
    assert sizes == [16, 16, 32, 64, 64]
    assert suited_batches(tiny(), 20).train == tiny().train
    config = free(train={"lr": 0.05, "batch_size": 64, "warmup_steps": 50})
    assert warmed(config, 100).train.warmup_steps == 5
    assert warmed(config, 10_000).train.warmup_steps == 50
    assert warmed(config.model_copy(update={"fitted": ()}), 100).train.warmup_steps == 50


def test_a_trial_without_a_budget_has_enough_steps_to_be_judged() -> None:
    config = suited_batches(free(epochs=1.0), 160)
    assert config.epochs * 160 / config.train.batch_size == 40
    assert suited_batches(free(epochs=30.0), 160).epochs == 30.0


def test_what_the_user_gives_is_not_fitted() -> None:
    given = {"budget": "1m", "val_fraction": 0.3, "train": {"batch_size": 4}}
    assert make_config("nash", {"budget": "1m"}).fitted == FITTED
    assert set(FITTED) - set(make_config("nash", given).fitted) == {"val_fraction", "batch_size"}


def test_what_few_examples_leave_of_a_budget_compares_more_children() -> None:
    for longest, steps, trials in ((4000.0, 40_000.0, 70.0), (900.0, 10**6, 9.0), (50_000.0, 10**6, 500.0)):
        chosen = pace_of_few(longest, steps, trials)
        assert chosen.generations >= 1
        assert chosen.stretch >= LEAST_STRETCH
        assert 1 <= chosen.children <= MOST_CHILDREN
        assert chosen.growth >= 2
    assert pace_of_few(100.0, 10**6, 500.0).generations == 0
    config = RunConfig.model_validate(
        {"space": "digits", "data": "digits", "cost": 1e12, "most_epochs": 40.0, "fitted": FITTED}
    )
    few, many = (
        paced(c, 40_000, 10_000, 2, float) for c in (config, config.model_copy(update={"most_epochs": None}))
    )
    assert few.children > many.children
    assert few.policy_settings["parent"] is True
    assert many.policy_settings["parent"] is False


def test_values_are_fitted_as_long_as_others_get_better() -> None:
    graph = mlp((10,), 1).seed
    config = free(budget=100.0, most_epochs=None)
    clear, noisy = (measured(config, graph, values(100, noise), 60.0) for noise in (0.0, 3.0))
    assert clear > noisy
    assert noisy <= LENGTHS[2]
    ticks = iter(range(10))
    assert measured(config, graph, values(100, 0.0), 2.5, lambda: float(next(ticks))) == BEYOND * LENGTHS[0]


def test_only_a_budget_or_a_cost_bounds_the_training() -> None:
    data = load_search_data("digits", None, 0, 0.1)
    graph = mlp((10,), 1).seed
    assert with_length(free(cost=1e9), graph, data, None).most_epochs == LONGEST
    for config in (free(), free(cost=1e9, fitted=()), free(cost=1e9, schedule="restarts")):
        assert with_length(config, graph, data, None).most_epochs is None


def test_limits_that_nobody_gave_are_named_with_their_option() -> None:
    own = Limits(width=64)
    assert "--limit width=N" in " ".join(limits_told(tiny(), own))
    assert "macs 5" in " ".join(limits_told(free(limits={"macs": 5}), Limits()))
    assert limits_told(tiny(limits={"macs": 5}), Limits()) == ()
    assert limits_told(tiny(limits={"width": 5}), own) == ()


def test_that_a_training_is_too_short_to_grow_is_not_said_of_what_was_asked_for() -> None:
    told = {"images": 100, "seed_macs": 10, "seconds": None}
    assert not pace_told(tiny(generations=0, cost=1e6), **told)
    assert "--generations" in " ".join(pace_told(free(generations=0, cost=1e6), **told))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Any:
    top = tmp_path_factory.mktemp("few")
    pictures = classes(top / "set", count=40)
    config = make_config(
        "nash", {"data": f"imagefolder:{pictures}?size=8", "cost": 1e11, "most_epochs": 60, "workers": 1}
    )
    return search(config, top / "run", Silent(), "", Inline)


def test_what_was_chosen_is_in_the_record_and_a_replay_repeats_it(few: Any, tmp_path: Path) -> None:
    kept = read_config(few.run).config["config"]
    assert kept["train"]["batch_size"] == 16
    assert kept["train"]["warmup_steps"] < 50
    assert kept["val_fraction"] == 0.25
    assert replay(few.run, tmp_path / "again", Silent(), "", executor=Inline).view.digest == few.view.digest


def test_a_training_ends_after_the_most_epochs(few: Any) -> None:
    kept = read_config(few.run).config["config"]
    images = read_config(few.run).config["data"]["images"]["train"]
    trained = sum(
        record.job.steps * record.result.macs
        for record in few.view.complete
        if record.job.final or record.job.kind == "seed" or record.key == few.view.notes.incumbent
    )
    best = few.view.final.result.macs
    assert trained / best <= 60 * images / kept["train"]["batch_size"] + 2
    assert nas.open_run(few.run).best is not None
