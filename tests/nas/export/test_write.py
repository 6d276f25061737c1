import os
import subprocess
import sys
from pathlib import Path

import pytest
from export_support import card_for, graph, network

import nas.export.write
from morphs import init, parse_graph
from nas.base.errors import UserError
from nas.export import Ancestor, ModelCard, Score, export
from nas.export.card import card_text
from nas.export.templates import code, plain

FILES = [
    "README.md", "__main__.py", "card.json", "graph.json", "model.pt2", "model.py", "picture.py", "weights.safetensors",
]  # fmt: skip


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_its_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    net = network("residual")
    paths = export(net, tmp_path / "deep" / "new", card_for(net.graph))
    assert sorted(path.name for path in paths) == FILES == listed(tmp_path / "deep" / "new")
    assert all(path.is_file() for path in paths)
    assert listed(tmp_path / "deep") == ["new"]


def test_an_empty_folder_is_filled_in_place(tmp_path: Path) -> None:
    net, to = network("residual"), tmp_path / "here"
    to.mkdir()
    before = to.stat().st_ino
    export(net, to, card_for(net.graph))
    assert to.stat().st_ino == before
    assert listed(to) == FILES


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    net = network("branches")
    first, second = (export(net, tmp_path / name, card_for(net.graph)) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.name == "model.pt2" or one.read_bytes() == other.read_bytes()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    net = network("residual")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=rf"{tmp_path} .*notes\.txt"):
        export(net, tmp_path, card_for(net.graph))
    with pytest.raises(UserError, match=r"notes\.txt "):
        export(net, tmp_path / "notes.txt", card_for(net.graph))
    with pytest.raises(UserError, match=r"notes\.txt/sub"):
        export(net, tmp_path / "notes.txt" / "sub", card_for(net.graph))
    assert listed(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize("existed", [False, True])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, existed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    net, to = network("residual"), tmp_path / "to"
    if existed:
        to.mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        nas.export.write.export(net, to, card_for(net.graph))
    assert listed(tmp_path) == (["to"] if existed else [])
    assert not existed or listed(to) == []


def test_card_and_network_must_fit(tmp_path: Path) -> None:
    net = network("residual")
    for changes, fact in (
        ({"classes": ("a", "b")}, r"\[3\] .* 2 names"),
        ({"mean": (0.5,)}, "2 channels"),
        ({"std": (0.5, 0.0)}, "positive std"),
    ):
        with pytest.raises(UserError, match=fact):
            export(net, tmp_path / "to", card_for(net.graph, **changes))
    two = init(parse_graph("x = input(size=[2]); y = input(size=[2]); s = add(x, y); out = output(s)"))
    with pytest.raises(UserError, match=r"2 tensors \(x, y\)"):
        export(two, tmp_path / "to", card_for(two.graph))
    assert listed(tmp_path) == []


def test_a_registered_activation_is_refused(tmp_path: Path) -> None:
    """It runs in a process of its own: what is registered stays."""
    code = f"""if True:
        import sys, torch
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        import morphs
        from export_support import card_for
        from nas.base.errors import UserError
        from nas.export import export
        morphs.register_activation("absolute", torch.abs)
        for line in ("r = absolute(c)", "r = p_activation(c, fn=absolute)"):
            graph = morphs.parse_graph("x = input(size=[2]); c = linear(x, features=3); out = output(r);" + line)
            net = morphs.init(graph)
            try:
                export(net, Path(sys.argv[1]), card_for(net.graph))
            except UserError as error:
                print(error)"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "to")], capture_output=True, text=True, cwd=Path.cwd()
    )
    assert done.stdout.count('export: node "r" uses the registered activation absolute') == 2, done.stderr
    assert listed(tmp_path) == []


def test_the_card_says_where_scores_come_from() -> None:
    card = card_for(
        graph("residual"),
        scores=(
            Score("val", "accuracy", 0.5),
            Score("test", "accuracy", 0.4567),
            Score("train", "loss", 0.25),
        ),
        lineage=(
            Ancestor("0.0", "seed", params=1234, value=0.4),
            Ancestor("1.2", "child", "widen(node=c1, to=8, how=replicate); deepen(node=c2)", 2345, value=0.5),
        ),
        command="nas search digits --seed 3",
        versions={"torch": "9.9", "python": "3.99"},
    )
    text = card_text(card, graph("residual"))
    for line in (
        "| accuracy | 45.67 % | test split, read once, after the search ended |",
        "| loss | 0.2500 | training split |",
        "1. trial 0.0 (seed): no change to the architecture; 1,234 parameters; validation accuracy 40.00 %",
        "2. trial 1.2 (child): `widen(node=c1, to=8, how=replicate); deepen(node=c2)`; 2,345 parameters; "
        "validation accuracy 50.00 %",
        "Created by `nas search digits --seed 3`.",
        "With python 3.99, torch 9.9.",
        "Classes, in the order of the outputs: kind 0, kind 1, kind 2.",
        "    c1 = conv2d(x, channels=4, kernel=3, padding=1, bias=false)",
    ):
        assert line in text.splitlines(), line
    assert text.index("45.67 %") < text.index("50.00 %")
    assert "never measured on the test split" not in text


def test_the_card_says_how_to_train_p_activations_on() -> None:
    assert "`project_()`" in card_text(card_for(graph("activations")), graph("activations"))
    assert "`project_()`" not in card_text(card_for(graph("residual")), graph("residual"))


def test_a_card_without_scores_says_so() -> None:
    text = card_text(card_for(graph("residual")), graph("residual"))
    assert "No scores were recorded." in text
    assert "This network was never measured on the test split." in text
    assert isinstance(card_for(graph("residual")), ModelCard)


def test_markup_in_names_is_made_harmless() -> None:
    assert plain("a|b\n<i>`*") == "a\\|b \\<i\\>\\`\\*"
    assert code("x\ny") == "`x y`"
    assert code("a ``b`` `c`") == "``` a ``b`` `c` ```"
