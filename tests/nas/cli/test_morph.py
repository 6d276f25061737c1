"""`nas morph` on models of one's own."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import morphs
from nas.base.errors import UserError
from nas.cli.commands import app
from nas.cli.morph import morph, parse_shape
from nas.export import ModelCard, export, read_card

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
FILES = ["README.md", "graph.json", "model.pt2", "model.py", "weights.safetensors"]


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
    assert sorted(path.name for path in (home / "two").iterdir()) == FILES


def test_a_file_of_torch_export_is_a_model(home: Path) -> None:
    from mine import net  # pyright: ignore

    x, batch = torch.randn(3, 1, 8, 8), {0: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(net().eval(), (x,), dynamic_shapes=(batch,)), "net.pt2")
    assert call("net.pt2", "widen(node=layer0, to=6)", "--to", "out").exit_code == 0
    torch.testing.assert_close(morphs.load("out").to_torch().eval()(x), net()(x), rtol=1e-5, atol=1e-6)


def test_sites_are_listed_as_they_are_applied(home: Path) -> None:
    done = call("mine:with_example", "widen", "deepen", "--sites")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines
    net = morphs.from_torch(*import_mine("with_example")())
    assert lines == [str(move) for kind in (morphs.Widen, morphs.Deepen) for move in kind.sites(net)]
    refused = call("mine:with_example", "add_block", "--refused").stdout.splitlines()
    assert refused == [f"{r.move}  {r.reason}" for r in morphs.AddBlock.refused(net)]
    for args in (
        ["widen(node=layer0, to=6)", "--sites"],
        ["--sites", "--refused"],
        ["--sites", "--to", "out"],
    ):
        assert call("mine:with_example", *args).exit_code == 2


@pytest.mark.parametrize(
    "text", ["widen", "widen()", "deepen", "widen(node=layer0, to=6); deepen", "grow_kernel"]
)
def test_a_move_without_its_site_is_answered_with_one_that_applies(home: Path, text: str) -> None:
    for to in ([], ["--to", "out"]):
        done = call("mine:with_example", text, *to)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--sites" in done.output
    site = " ".join(done.output.split()).split("'")[1]
    assert call("mine:with_example", site, "--to", "out").exit_code == 0


def test_a_move_without_any_site_is_answered_with_how_to_find_the_reasons(home: Path) -> None:
    done = call("mine:with_example", "add_block", "--to", "out")
    assert done.exit_code == 2
    assert "--refused" in done.output
    assert not (home / "out").exists()


def import_mine(name: str) -> Any:
    return getattr(importlib.import_module("mine"), name)


def test_an_optimizers_state_goes_along(home: Path) -> None:
    from mine import net  # pyright: ignore

    module, x = net(), torch.randn(5, 1, 8, 8)
    names = [*module.named_parameters()]
    decayed = [{"params": names[::2], "weight_decay": 0.1}, {"params": names[1::2]}]
    for optimizer in (
        torch.optim.AdamW(decayed, lr=0.01),
        torch.optim.SGD(module.parameters(), 0.1, momentum=0.9),
    ):
        module(x).square().sum().backward()
        optimizer.step()
        torch.save(optimizer.state_dict(), "state.pt")
        to = f"out-{type(optimizer).__name__}"
        done = call("mine:with_example", "widen(node=layer0, to=6)", "--optimizer", "state.pt", "--to", to)
        assert done.exit_code == 0, done.output
        child = morphs.load(to).to_torch()
        params = [p for _, p in child.named_parameters()]
        groups = (
            [{"params": params[::2]}, {"params": params[1::2]}] if len(optimizer.param_groups) > 1 else params
        )
        again = type(optimizer)(groups)
        again.load_state_dict(torch.load(f"{to}/optimizer.pt", weights_only=True))
        assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in optimizer.param_groups]
        kept = again.state[child.get_parameter("layer3.bias" if hasattr(child, "layer3") else "3.bias")]
        old = optimizer.state[module[3].bias]
        assert {name for name in old if name != "step"} == {name for name in kept if name != "step"}
        torch.testing.assert_close(sum(p.numel() for p in params), sum(s["exp_avg" if "exp_avg" in s else
                                   "momentum_buffer"].numel() for s in again.state.values()))  # fmt: skip


def test_a_state_that_is_not_the_models_is_refused(home: Path) -> None:
    from mine import net  # pyright: ignore

    module = net()
    two = [{"params": [*module.parameters()][:2]}, {"params": [*module.parameters()][2:]}]
    states: dict[str, Any] = {
        "without names": torch.optim.SGD(two, 0.1).state_dict(),
        "steps 2 parameters": torch.optim.SGD([*module.parameters()][:2], 0.1).state_dict(),
        "state_dict of an optimizer": module.state_dict(),
        "no optimizer of torch": {"state": {}, "param_groups": [{"params": [0, 1, 2, 3], "speed": 3}]},
        "not a state of tensors": module,
    }
    for fact, state in states.items():
        torch.save(state, "state.pt")
        done = call("mine:with_example", "widen(node=layer0, to=6)", "--optimizer", "state.pt", "--to", "out")
        assert (done.exit_code, fact in done.output) == (2, True), done.output
    assert (
        call("mine:with_example", "widen(node=layer0, to=6)", "--optimizer", "no.pt", "--to", "out").exit_code
        == 2
    )
    assert not (home / "out").exists()


def test_a_classifier_stays_one(home: Path) -> None:
    """What an export knows of classes and pictures is known of its child."""
    net = morphs.from_torch(*import_mine("with_example")())
    card = ModelCard("n", "digits", tuple("abcdefghij"), (0.3,), (0.2,))
    export(net, home / "found", card)
    done = call("found", "widen(node=layer0, to=6)", "--to", "grown")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (home / "grown").iterdir()) == sorted(
        p.name for p in (home / "found").iterdir()
    )
    again = read_card(home / "grown")
    assert again is not None
    assert (again.classes, again.mean) == (card.classes, card.mean)
    assert [step.moves for step in again.lineage] == [str(morphs.parse("widen(node=layer0, to=6)"))]


WRONG: dict[tuple[str, ...], str] = {
    ("nowhere", "widen(node=a, to=3)"): "no model",
    (".", "widen(node=a, to=3)"): "graph.json",
    ("mine.py", "widen(node=a, to=3)"): "no model by itself",
    ("nowhere.pt2", "widen(node=a, to=3)"): "can't be read",
    ("mine:with_example", "widen(node=layer0, to=6)", "--trial", "0.0"): "it is not a run",
    ("mine:net", "widen(node=layer0, to=6)"): "--input",
    ("mine:number", "widen(node=layer0, to=6)"): "returned a int",
    ("mine:absent", "widen(node=layer0, to=6)"): "'absent'",
    ("missing:net", "widen(node=layer0, to=6)"): "no module missing",
    ("mine:with_example",): "no move to apply",
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
