"""model.py works where this project doesn't exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from export_support import GRAPHS, card_for, images_for, network, renamed

from nas.export import export

OURS = ("morphs", "nas", "search_spaces", "safetensors", "jinja2", "pydantic")

# Run by `python -I` in an empty folder: neither the repository nor the environment's paths lead to our packages.
ALONE = f"""
import importlib.util, pathlib, sys
OURS = {OURS!r}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OURS:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
for name in OURS:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{{name}} can be imported")

import torch
torch.set_num_threads(1)
for folder in map(pathlib.Path, sys.argv[1:]):
    spec = importlib.util.spec_from_file_location(folder.name, folder / "model.py")
    model = importlib.util.module_from_spec(spec)
    sys.modules[folder.name] = model
    spec.loader.exec_module(model)
    images = torch.load(folder / "images.pt", weights_only=True)
    net = model.load()
    assert not net.training and tuple(images.shape[1:]) == model.INPUT_SHAPE
    x = model.normalise(images)
    with torch.no_grad():
        scores = net(x)
    assert model.predict(images) == [model.CLASSES[i] for i in scores.argmax(1).tolist()]
    torch.save({{"x": x, "scores": scores}}, folder / "scores.pt")
assert not set(OURS) & {{name.partition(".")[0] for name in sys.modules}}
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each network of GRAPHS in a folder of its own, run once where this project doesn't exist."""
    place = tmp_path_factory.mktemp("exported")
    folders: list[Path] = []
    for index, name in enumerate(GRAPHS):
        net = network(name)
        folders.append(place / f"net{index}")
        export(net, folders[-1], card_for(net.graph))
        torch.save(images_for(net.graph), folders[-1] / "images.pt")
    empty = place / "empty"
    empty.mkdir()
    run_alone(ALONE, empty, *map(str, folders))
    return place


def run_alone(source: str, where: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", source, *arguments],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", GRAPHS)
def test_it_computes_what_the_network_computes(exported: Path, name: str) -> None:
    net, folder = network(name), exported / f"net{list(GRAPHS).index(name)}"
    found = torch.load(folder / "scores.pt", weights_only=True)
    card = card_for(net.graph)
    axes = [-1] + [1] * (len(net.graph.shape(net.graph.inputs[0].name)) - 1)
    mean, std = (torch.tensor(values, dtype=torch.float64).reshape(axes) for values in (card.mean, card.std))
    white = 255 if len(axes) == 3 else 1  # only images are scaled
    seen = (images_for(net.graph).double() / white - mean) / std
    torch.testing.assert_close(found["x"].double(), seen, rtol=1e-6, atol=1e-6)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        scores = renamed(net).to_torch().eval()(found["x"])
    torch.set_num_threads(threads)
    torch.testing.assert_close(found["scores"], scores, rtol=0, atol=0)


@pytest.mark.parametrize("name", GRAPHS)
def test_it_imports_torch_and_the_standard_library_only(exported: Path, name: str) -> None:
    tree = ast.parse((exported / f"net{list(GRAPHS).index(name)}" / "model.py").read_text())
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in modules} - sys.stdlib_module_names == {"torch"}


@pytest.mark.parametrize("check", [["check", "--select", "E,F,W,I,B"], ["format", "--diff"]])
def test_ruff_leaves_it_alone(exported: Path, check: list[str]) -> None:
    pytest.importorskip("ruff")
    files = [str(path) for path in exported.glob("net*/model.py")]
    assert len(files) == len(GRAPHS)
    command = [
        sys.executable,
        "-m",
        "ruff",
        *check,
        "--isolated",
        "--no-cache",
        "--line-length",
        "110",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_model_cards_example_runs(exported: Path) -> None:
    folder = exported / "net0"
    match = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert match is not None
    assert len(match[1].splitlines()) == 5
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    output = run_alone(path + match[1] + "print(tuple(scores.shape), names)", exported / "empty")
    assert output.startswith("(8, 3) ['kind ")


def test_without_torch_it_says_what_is_missing(exported: Path) -> None:
    """A shell in which no environment is active, say: no traceback."""
    folder = next(path for path in exported.iterdir() if (path / "__main__.py").exists())
    code = "import sys, runpy; sys.modules['torch'] = None; runpy.run_path(sys.argv[1])"
    started = [sys.executable, "-I", "-c", code, str(folder)]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "torch" in done.stderr
    assert len(done.stderr.splitlines()) == 1
