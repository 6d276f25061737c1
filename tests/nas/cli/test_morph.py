"""`nas morph` on models of one's own."""

import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import morphs
from nas.base.errors import UserError
from nas.cli.commands import app
from nas.cli.morph import morph, parse_shape

MODULE = """
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
def with_example():
    return net(), torch.zeros(2, 1, 8, 8)
def number():
    return 3
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's
    return tmp_path


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["morph", *args], prog_name="nas")


def test_a_model_of_ones_own_grows_and_computes_the_same(home: Path) -> None:
    done = call(
        "mine:net",
        "--input",
        "1,8,8",
        "widen(node=layer0, to=6)",
        "grow_kernel(node=layer0, to=[5, 5])",
        "--to",
        "out",
    )
    assert done.exit_code == 0, done.output
    assert "widen(node=" in done.stdout
    from mine import net  # pyright: ignore

    x = torch.randn(3, 1, 8, 8)
    grown = morphs.load("out").to_torch().eval()
    assert sum(p.numel() for p in grown.parameters()) > 2700
    torch.testing.assert_close(grown(x), net()(x), rtol=1e-5, atol=1e-6)


def test_what_it_saved_can_grow_on_with_data(home: Path) -> None:
    assert call("mine:with_example", "widen(node=layer0, to=6)", "--to", "one").exit_code == 0
    assert "name a data set with --data" in call("one", "insert_norm(node=layer0)", "--to", "two").output
    done = call("one", "insert_norm(node=layer0)", "--data", "digits", "--to", "two")
    assert done.exit_code == 0, done.output
    assert any(node.op.kind == "batch_norm" for node in morphs.load("two").graph)


WRONG: dict[tuple[str, ...], str] = {
    ("nowhere", "widen(node=a, to=3)"): "neither a folder with a saved network nor",
    (".", "widen(node=a, to=3)"): "is not a saved network",
    ("mine:net", "widen(node=layer0, to=6)"): "--input",
    ("mine:number", "widen(node=layer0, to=6)"): "returned a int",
    ("mine:absent", "widen(node=layer0, to=6)"): "'absent'",
    ("missing:net", "widen(node=layer0, to=6)"): "no module missing",
    ("mine:with_example",): "missing argument",
    ("mine:with_example", "wilden(node=c)"): "there is no move wilden",
    ("mine:with_example", "widen(node=layer0, to=2)"): "wider width",
    ("mine:with_example", "widen(node=layer3, to=20)"): "feeds the output",
}


@pytest.mark.parametrize("args", WRONG)
def test_wrong_input_says_what_and_writes_nothing(home: Path, args: tuple[str, ...]) -> None:
    done = call(*args, "--to", "out")
    assert done.exit_code == 2
    assert WRONG[args] in done.output
    assert "Traceback" not in done.output
    assert not (home / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(home: Path) -> None:
    with pytest.raises(UserError, match="is not empty"):
        list(morph("mine:with_example", ["widen(node=layer0, to=6)"], home))


def test_shapes() -> None:
    assert parse_shape("3,32,32") == (3, 32, 32)
    for text in ("", "3,,2", "a", "0,3", "-1"):
        with pytest.raises(UserError, match=f'"{text}"'):
            parse_shape(text)


def test_a_module_that_cannot_be_traced_is_refused_by_name(home: Path) -> None:
    (home / "odd.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Bilinear(3, 4, 5))\n"
    )
    with pytest.raises(UserError, match="Bilinear"):
        list(morph("odd:net", ["widen(node=a, to=6)"], home / "out", shape=(3, 4, 4)))
