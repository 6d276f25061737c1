"""An export classifies picture files as validation did, in a process without this project."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_support import ALONE, without_this_project
from picture_support import loaded, picture
from PIL import Image

from morphs import init, parse_graph
from nas.data import SearchData, eval_batches, load_search_data
from nas.data.picture import describe
from nas.export import ModelCard, export


def colour(top: Path) -> str:
    """Photos of several sizes, turned by their cameras, transparent, in a palette, with an odd ending."""
    for label, name in enumerate(("ant", "bee")):
        for number in range(12):
            exif = Image.Exif()
            exif[0x0112] = 1 + number % 8
            seed = 100 * label + number
            picture(top / name / f"{number}.jpg", (60 + number, 40), seed, exif=exif, quality=90)
            picture(top / name / f"{number}.jfif", (130, 90 - label), seed, format="JPEG")
            clear = np.random.default_rng(seed).integers(0, 256, (30, 40, 4)).astype(np.uint8)
            Image.fromarray(clear).save(top / name / f"clear{number}.png")
            Image.fromarray(clear[..., :3]).convert("P").save(top / name / f"few{number}.gif")
    return ""


def deep(top: Path) -> str:
    """Grey pictures of 12 bits, of another size than the input."""
    for label, name in enumerate(("dark", "light")):
        (top / name).mkdir(parents=True)
        for number in range(16):
            values = np.random.default_rng(50 * label + number).integers(0, 4096, (20, 33)).astype(np.uint16)
            Image.fromarray(values).save(top / name / f"{number}.png")
    return "?size=12x18"


def padded(top: Path) -> str:
    colour(top)
    return "?size=16x24&fit=pad"


def exported(data: SearchData, to: Path) -> Any:
    """Export a network for the data; the network in evaluation mode."""
    c, h, w = data.input_shape
    text = f"""
        x = input(size=[{c}, {h}, {w}]); a = conv2d(x, channels=4, kernel=3); r = relu(a)
        p = adaptive_avg_pool2d(r); f = flatten(p); fc = linear(f, features={len(data.classes)}); out = output(fc)"""
    network = init(parse_graph(text), seed=3)
    card = ModelCard("x", data.name, data.classes, data.mean, data.std, reading=data.reading)
    export(network, to, card)
    return network.to(torch.float32).to_torch().eval()


@pytest.mark.parametrize("make", [colour, deep, padded])
def test_raw_files_get_what_validation_got(make: Any, tmp_path: Path) -> None:
    more = make(tmp_path / "set")
    data = loaded(tmp_path / "set", more)
    module = exported(data, tmp_path / "out")
    with torch.no_grad():
        shares = torch.cat(
            [module(x).double().softmax(1) for x, _ in eval_batches(data.val, 8, data.mean, data.std)]
        )
    split: Any = data.val
    files = [split.items.files[index] for index in split.indices.tolist()]
    found = without_this_project(ALONE, tmp_path / "out", files)
    assert len(found) == len(files) > 1
    for expected, answer in zip(shares, found, strict=True):
        assert [answer[name] for name in data.classes] == pytest.approx(expected.tolist(), abs=1e-6)
        assert list(answer.values()) == sorted(answer.values(), reverse=True)


@pytest.mark.parametrize("how", ["folder", "module", "file"])
def test_one_line_in_a_shell_classifies_files(how: str, tmp_path: Path) -> None:
    colour(tmp_path / "set")
    exported(loaded(tmp_path / "set"), tmp_path / "insects")
    command = {"folder": ["insects"], "module": ["-m", "insects"], "file": ["insects/model.py"]}[how]
    good, bad = "set/ant/0.jpg", tmp_path / "none.png"
    bad.write_bytes(b"nothing")
    done = subprocess.run(
        [sys.executable, *command, "predict", good, bad.name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout.startswith(f"{good}: ")
    assert {"ant", "bee"} <= set(done.stdout.split())
    assert len(done.stderr.splitlines()) == 1
    assert bad.name in done.stderr


def test_a_folder_is_its_pictures_by_name(tmp_path: Path) -> None:
    colour(tmp_path / "set")
    exported(loaded(tmp_path / "set"), tmp_path / "net")
    (tmp_path / "set/ant/notes.txt").write_text("none")
    (tmp_path / "set/ant/.hidden.png").write_bytes(b"")
    pictures = [f"set/ant/{path.name}" for path in (tmp_path / "set/ant").iterdir()]
    done = subprocess.run(
        [sys.executable, "net", "predict", "set/ant", "set", "set/bee/0.jpg"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1  # "set" has only folders
    expected = [name for name in sorted(pictures) if not name.endswith((".txt", ".hidden.png"))]
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [*expected, "set/bee/0.jpg"]
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["set"]


def test_the_card_and_the_code_state_every_step(tmp_path: Path) -> None:
    data = loaded(tmp_path / "set", deep(tmp_path / "set"))
    exported(data, tmp_path / "out")
    assert data.reading is not None
    for name in ("README.md", "model.py"):
        text = (tmp_path / "out" / name).read_text()
        assert [step for step in describe(data.reading).split("; ") if step not in text] == []
    assert "4095" in (tmp_path / "out" / "README.md").read_text()


def test_arrays_have_the_plainest_way_and_the_card_says_so(tmp_path: Path) -> None:
    data = load_search_data("digits", None, 0)
    exported(data, tmp_path / "out")
    assert "trained on arrays" in (tmp_path / "out" / "README.md").read_text()
    Image.fromarray(data.val.images[0, 0].numpy()).save(tmp_path / "x.png")  # pyright: ignore
    done = subprocess.run(
        [sys.executable, str(tmp_path / "out"), "predict", str(tmp_path / "x.png")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_an_export_carries_the_code_that_training_used(tmp_path: Path) -> None:
    exported(load_search_data("digits", None, 0), tmp_path / "out")
    ours = Path(__file__).parents[3] / "nas/data/picture.py"
    assert (tmp_path / "out" / "picture.py").read_text() == ours.read_text()
    imported = [
        line.split()[1] for line in ours.read_text().splitlines() if line.startswith(("import ", "from "))
    ]
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy", "PIL"}
