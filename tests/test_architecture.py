"""The layers: nas imports search_spaces imports morphs, third parties live at the rim."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("morphs", "search_spaces", "nas")  # each may import those before it
PACKAGES = [name for name in LAYERS if (ROOT / name / "__init__.py").exists()]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; in full."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


FILES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    layer = path.relative_to(ROOT).parts[0]
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"tests", "strategies", "runs"}
    assert not tops(path) & above


@pytest.mark.parametrize(
    "path", sorted((ROOT / "morphs").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_morphs_needs_torch_networkx_numpy_and_safetensors_only(path):
    allowed = {"morphs", "torch", "networkx", "numpy", "safetensors", "_typeshed"} | set(
        sys.stdlib_module_names
    )
    assert tops(path) <= allowed
    if path.parent.name == "graph":
        assert "torch" not in tops(path)
        assert not {name for name in imports(path) if name.startswith(("morphs.torch_io", "morphs.network"))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_importing_morphs_loads_no_optuna_ray_sklearn_or_nas():
    loaded = loaded_by("import morphs")
    assert {"torch", "morphs"} <= loaded
    assert not loaded & {
        "optuna",
        "ray",
        "sklearn",
        "nas",
        "search_spaces",
        "typer",
        "pydantic",
        "hypothesis",
    }


@pytest.mark.skipif(
    not (ROOT / "nas" / "cli").exists() and not (ROOT / "nas" / "cli.py").exists(), reason="no CLI yet"
)
def test_importing_the_command_line_loads_no_ray():
    assert "ray" not in loaded_by("import nas.cli.commands")


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_exports_exists(package):
    for path in sorted((ROOT / package).rglob("__init__.py")):
        name = ".".join(path.parent.relative_to(ROOT).parts)
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", [])
        assert [n for n in exported if not hasattr(module, n)] == []
        assert len(set(exported)) == len(exported)
    assert importlib.import_module("morphs").__all__


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_ray_lives_in_one_package(path):
    assert (
        "ray" not in tops(path) or path.parent == ROOT / "nas/execute/ray" or path.name == "ray_searcher.py"
    )
