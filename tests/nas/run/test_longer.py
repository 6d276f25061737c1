"""Finished searches that are continued for longer, each in a new run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_support import TINY, Inline, Recorder, tiny

from nas.base.errors import RunError, UserError
from nas.config.run_config import FITTED
from nas.inspect.rows import status_rows
from nas.inspect.status import run_status
from nas.ledger import Store, read, read_config
from nas.registry.configure import make_config
from nas.report import write_report
from nas.run.events import Outcome, Silent
from nas.run.folders import free_longer_folder
from nas.run.lifecycle import replay, resume, search, stored_config
from nas.run.longer import More, folder_for, longer, longer_config, more_of

FREE = ("clip_norm", "limits", "lr", "macs", "most_epochs", "warmup_steps")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run whose rate nobody gave."""
    config = tiny(fitted=FREE, generations=1)
    return search(config, tmp_path_factory.mktemp("longer") / "run", Silent(), "", Inline)


def continued(done: Outcome, run: Path, more: More = More(generations=1), **how: Any) -> Outcome:  # noqa: B008
    return longer(done.run, run, more, Silent(), "nas resume run", executor=Inline, **how)


def test_a_longer_search_starts_from_the_network_that_was_found(done: Outcome, tmp_path: Path) -> None:
    files = {path: path.read_bytes() for path in sorted(done.run.rglob("*")) if path.is_file()}
    more = continued(done, tmp_path / "more", More(generations=2))
    assert done.view.final is not None
    assert done.view.final.result is not None
    found = done.view.final.result
    seed = more.view.trial("0.0")
    assert seed.job.training.weights == found.weights
    assert seed.result is not None
    assert seed.result.scores["given_loss"] == found.scores["val_loss"]
    assert {record.job.generation for record in more.view.searched} == {0, 1, 2}
    assert {path: path.read_bytes() for path in sorted(done.run.rglob("*")) if path.is_file()} == files


def test_it_is_known_what_it_continues(done: Outcome, tmp_path: Path) -> None:
    more = continued(done, tmp_path / "more")
    assert run_status(more.run).after == str(done.run)
    assert ("continues", str(done.run)) in status_rows(run_status(more.run))
    assert str(done.run) in write_report(more.run).read_text()
    assert run_status(done.run).after is None


def test_it_is_resumed_replayed_and_continued_like_any_run(done: Outcome, tmp_path: Path) -> None:
    whole = continued(done, tmp_path / "whole")
    stopped = longer(
        done.run, tmp_path / "stopped", More(generations=1), Recorder(stop_after=2), "", executor=Inline
    )
    assert stopped.stopped == "interrupted"
    assert resume(stopped.run, Silent(), executor=Inline).view.digest == whole.view.digest
    again = replay(whole.run, tmp_path / "again", Silent(), "", executor=Inline)
    assert again.view.digest == whole.view.digest
    assert run_status(again.run).after == str(done.run)
    third = continued(whole, tmp_path / "third")
    assert run_status(third.run).after == str(whole.run)


def test_what_was_given_stays_and_a_rate_for_a_fresh_network_does_not(done: Outcome) -> None:
    stored = stored_config(done.run, read_config(done.run).config)
    config, _ = longer_config(stored, More(generations=3))
    assert config.generations == 3
    same = ("children", "epochs", "moves_per_child", "final_share", "seed", "val_fraction", "space", "data")
    assert {name: getattr(config, name) for name in same} == {name: TINY[name] for name in same}
    assert config.train.batch_size == 64
    assert config.train.lr < TINY["train"]["lr"]
    assert longer_config(tiny(), More(generations=3))[0].train.lr == TINY["train"]["lr"]


def test_a_new_budget_chooses_again_what_the_old_one_chose() -> None:
    given = {"data": "digits", "budget": "10s", "limits": {"params": 10_000}, "train": {"lr": 0.3}}
    old = make_config("nash", given)
    chosen: dict[str, Any] = {
        "generations": 2, "children": 5, "threads": 2, "epochs": 7.0, "grow_share": 0.9, "most_epochs": 300.0,
        "limits": {**old.limits, "macs": 50_000}, "policy_settings": {**old.policy_settings, "parent": True},
    }  # fmt: skip
    config, _ = longer_config(old.model_copy(update=chosen), More(budget=3600.0))
    free = ("generations", "children", "threads", "epochs", "grow_share", "most_epochs")
    assert not config.model_fields_set & set(free)
    assert (config.budget, config.limits, config.train.lr) == (3600.0, {"params": 10_000}, 0.3)
    assert config.policy_settings["parent"] is None
    assert {"generations", "macs", "parent"} <= set(config.fitted)
    both, _ = longer_config(config, More(60.0, 4))
    assert (both.budget, both.generations) == (60.0, 4)
    assert "generations" not in both.fitted
    counted, _ = longer_config(old.model_copy(update=chosen), More(generations=4))
    assert (counted.budget, counted.children, counted.epochs) == (None, 5, 7.0)
    assert "macs" not in counted.limits


def test_settings_in_tables_count_as_given() -> None:
    given = {"policy_settings": {"parent": True}, "limits": {"macs": 9}, "generations": 1}
    assert set(FITTED) - set(make_config("nash", given).fitted) == {"generations", "limits", "macs", "parent"}


def test_a_budget_is_for_the_longer_search_alone(done: Outcome, tmp_path: Path) -> None:
    free = tuple(name for name in FITTED if name != "most_epochs")
    config = tiny(fitted=free, most_epochs=2.0, generations=0)
    source = search(config, tmp_path / "run", Silent(), "", Inline)
    more = continued(source, tmp_path / "more", More(budget=60.0))
    stored = stored_config(more.run, read_config(more.run).config)
    assert (stored.budget, stored.most_epochs) == (60.0, 2.0)
    assert more.seconds < 60.0
    assert more.test is not None


@pytest.mark.parametrize(
    ("budget", "generations", "remedy"),
    [
        ("2h", None, "write +2h"),
        ("-2h", None, "write +2h"),
        ("+0", None, "write +90s"),
        ("+soon", None, "write +90s"),
        (3600, None, "write +3600"),
        (None, "5", "write +5"),
        (None, 5, "write +5"),
        (None, "-5", "write +5"),
        (None, "+0", "write +5"),
        (None, "+1.5", "write +5"),
        (None, "+²", "write +5"),
        ("+1h", "three", "write +5"),
    ],
)
def test_what_is_not_more_is_refused_with_what_to_write(budget: Any, generations: Any, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        more_of(budget, generations)
    assert str(caught.value).endswith(remedy) or f"{remedy}," in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_is_time_generations_or_both() -> None:
    assert more_of(None, None) is None
    assert more_of("+1h30m", None) == More(5400.0)
    assert more_of(None, "+5") == More(None, 5)
    assert more_of("+90s", "+2") == More(90.0, 2)


def test_the_folder_is_new_and_beside_the_old_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert free_longer_folder(run).name == "run-more-1"
    (tmp_path / "run-more-1").mkdir()
    assert [free_longer_folder(tmp_path / name).name for name in ("run", "run-more-1")] == ["run-more-2"] * 2
    assert folder_for(run, More(1.0), "other") == Path("other")
    assert folder_for(run, None, None) == run
    with pytest.raises(UserError, match="--generations"):
        folder_for(run, None, "other")


def test_code_is_named_again_by_a_command_that_can_be_pasted(done: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done.run, copy)
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"space":"digits"', '"space":"mine:space"'))
    with pytest.raises(RunError, match=r"nas resume --budget \+60s --generations \+2 \S+ --space mine:space"):
        longer(copy, tmp_path / "more", More(60.0, 2), Silent(), "", executor=Inline)


def test_a_taken_folder_is_refused(done: Outcome) -> None:
    with pytest.raises(RunError, match="already a run"):
        continued(done, done.run)


def test_an_unfinished_search_is_finished_first(tmp_path: Path) -> None:
    stopped = search(tiny(), tmp_path / "run", Recorder(stop_after=2), "", Inline)
    digest = read(stopped.run).digest
    with pytest.raises(RunError, match="nas resume") as caught:
        continued(stopped, tmp_path / "more")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "more").exists()
    assert read(stopped.run).digest == digest


def test_a_search_whose_network_was_removed_is_repaired_first(done: Outcome, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done.run, copy)
    assert done.view.final is not None
    assert done.view.final.result is not None
    Store(copy / "checkpoints").remove(done.view.final.result.weights)
    with pytest.raises(RunError, match="--repair"):
        longer(copy, tmp_path / "more", More(generations=1), Silent(), "", executor=Inline)
    assert not (tmp_path / "more").exists()


def test_other_data_are_refused_unless_forced(tmp_path: Path) -> None:
    def write(seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        x = torch.rand(80, 1, 8, 8, generator=draw)
        np.savez(tmp_path / "data.npz", x=x.numpy(), y=(torch.arange(80) % 2).numpy())

    write(0)
    source = search(
        tiny(data=f"npz:{tmp_path / 'data.npz'}", generations=0), tmp_path / "run", Silent(), "", Inline
    )
    write(1)
    with pytest.raises(RunError, match="--force"):
        continued(source, tmp_path / "more")
    assert not (tmp_path / "more").exists()
    assert continued(source, tmp_path / "more", force=True).view.final is not None
