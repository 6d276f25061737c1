import os
from pathlib import Path
from typing import Any

import pytest
from engine_support import TINY
from hypothesis import given
from hypothesis import strategies as st

from nas.base.errors import UserError
from nas.config.quantity import parse_duration, parse_limit
from nas.config.recipe import RECIPES, load_recipe
from nas.registry.configure import check_config, make_config
from nas.registry.defaults import DEFAULTS
from search_spaces import SPACES


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"space": "digit"}, 'there is no search space "digit"; did you mean digits?'),
        ({"space": "zzz"}, 'there is no search space "zzz"; choose one of digits'),
        ({"chidren": 3}, 'there is no setting "chidren"; did you mean children?'),
        ({"train": {"lrr": 1}}, 'there is no setting "train.lrr"; did you mean lr?'),
        ({"train": {"lr": -1}}, "train.lr: input should be greater than 0, not -1"),
        ({"train": {"lr": "fast"}}, "train.lr: input should be a valid number"),
        ({"train": 3}, "train: input should be a dictionary"),
        ({"limits": {"parms": 3}}, 'there is no limit "parms"; choose one of params, macs'),
        ({"limits": {"params": 0}}, "limit params=0 is below 1"),
        ({"limits": {"params": 1.5}}, "limits.params: input should be a valid integer"),
        ({"generations": None}, "the run would never end; give --budget, --cost or --generations"),
        ({"generations": -1}, "generations: input should be greater than or equal to 0, not -1"),
        ({"epochs": float("nan")}, "epochs: input should be a finite number, not nan"),
        ({"epochs": float("inf")}, "epochs: input should be a finite number, not inf"),
        ({"budget": float("inf")}, "budget: input should be a finite number, not inf"),
        ({"budget": -1}, "budget: input should be greater than 0, not -1"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0"),
        ({"seed": 2**31}, "seed: input should be less than"),
        ({"final": "maybe"}, "final: input should be 'continue' or 'restart', not 'maybe'"),
        ({"final_share": 1}, "final_share: input should be less than 1, not 1"),
        ({"workers": 0}, "workers: input should be greater than or equal to 1"),
        ({"data": None}, "data: input should be a valid string, not None"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change: dict[str, Any], fact: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config({**TINY, **change})
    assert str(caught.value).startswith(f"configuration: {fact}")
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(UserError, match='the setting "data" is missing; give it'):
        check_config({"space": "digits", "generations": 1})


def test_a_configuration_comes_back_from_json() -> None:
    config = check_config({**TINY, "limits": {"params": 5000}, "budget": 2.5})
    assert check_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("space", SPACES)
def test_every_space_has_defaults_that_stand(space: str) -> None:
    assert space in DEFAULTS
    config = make_config(space, {})
    assert config.space == space
    assert config.generations is not None
    assert config.recipe is None


def test_a_budget_replaces_the_default_generations_and_joins_given_ones() -> None:
    assert make_config("digits", {"budget": 60.0}).generations is None
    both = make_config("digits", {"budget": 60.0, "generations": 3})
    assert (both.budget, both.generations) == (60.0, 3)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.registry.configure.cores", lambda: 8)
    assert make_config("digits", {}).workers == 8
    assert make_config("digits", {"threads": 3}).workers == 2
    assert make_config("digits", {"threads": 99}).workers == 1
    assert make_config("digits", {"workers": 5, "threads": 3}).workers == 5
    with pytest.raises(UserError, match="threads: input should be greater than or equal to 1, not 0"):
        make_config("digits", {"threads": 0})


RECIPE = 'space = "digits"\nbudget = "2m"\nepochs = 3\n[train]\nlr = 0.2\n[limits]\nparams = 2e6\n'


def test_a_recipe_lies_between_defaults_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    given = {"epochs": 4.0, "train": {"momentum": 0.5}, "limits": {"macs": 9}}
    config = make_config(str(path), given)
    assert (config.budget, config.generations, config.epochs) == (120.0, None, 4.0)
    assert (config.train.lr, config.train.momentum) == (0.2, 0.5)
    assert config.train.batch_size == DEFAULTS["digits"]["train"]["batch_size"]
    assert config.limits == {"params": 2_000_000, "macs": 9}
    assert config.recipe == str(path)


def test_a_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RECIPES.mkdir(parents=True)
    (RECIPES / "mine.toml").write_text(RECIPE)
    assert make_config("mine", {}).recipe == "mine"
    with pytest.raises(UserError, match='"mina" is neither a search space nor a recipe; did you mean mine'):
        make_config("mina", {})
    with pytest.raises(UserError, match=r'"x" is neither .*; choose one of digits, mlp, .*mine'):
        make_config("x", {})


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (b"space = ", "is not TOML"),
        (b"epochs = 3", "names no space; add a line like"),
        (b"\xff\xfe", "can't be read"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, "nested"),
        (b"a." * 200 + b"b = 1", "nested"),
        (b"seed = " + b"9" * 5000, "is not TOML"),
        (b"#" * 2**21, "bytes"),
    ],
)
def test_a_bad_recipe(tmp_path: Path, text: bytes, fact: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=fact):
        load_recipe(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_recipe_that_would_block_or_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("fifo", "zero"):
        with pytest.raises(UserError, match="not a file"):
            load_recipe(tmp_path / f"{name}.toml")


def test_a_recipe_that_is_missing_or_names_an_unknown_space(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        make_config(str(tmp_path / "none.toml"), {})
    (tmp_path / "far.toml").write_text('space = "cifar"')
    with pytest.raises(UserError, match='there is no search space "cifar"'):
        make_config(str(tmp_path / "far.toml"), {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("45", 45), ("2d", 172800), (" 3 s ", 3)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3s", "0", "0s", "1e3", "10 minutes", "m", "1m30s", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UserError, match="is not a duration"):
        parse_duration(text)


@given(st.floats(1e-3, 1e6), st.sampled_from(["s", "m", "h", "d"]))
def test_durations_scale_with_their_unit(number: float, unit: str) -> None:
    text = f"{number:.6f}"
    assert parse_duration(text + unit) == float(text) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def test_limits() -> None:
    assert parse_limit("params=2e6") == ("params", 2_000_000)
    assert parse_limit(" macs = 12 ") == ("macs", 12)


@pytest.mark.parametrize("text", ["params", "params=", "params=many", "params=nan", "params=inf", "2e6"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(UserError, match="is not a limit; write NAME=NUMBER, like params=2e6"):
        parse_limit(text)
