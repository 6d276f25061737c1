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


# Inside nas: the folders as a search flows, each may import those before it. The root (the public API) is above all.
FLOW = (
    "base", "ledger", "data", "config", "train", "policies", "execute", "registry", "run", "progress", "export",
    "inspect", "report", "adapters", "api", "cli",
)  # fmt: skip
ROOT_FILES = 5


def module_of(path: Path) -> str:
    """The dotted name of a file of ours."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def arrows(path: Path) -> set[str]:
    """The files of ours that a file imports, wherever in it: also for type checking, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return (found & MODULES.keys()) - {module_of(path)}


def folder_of(module: str) -> int:
    """The place of a module of nas in FLOW; that of the root is the last."""
    parts = module.split(".")
    return FLOW.index(parts[1]) if len(parts) > 1 and parts[1] in FLOW else len(FLOW)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "nas").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_inside_nas_imports_point_down(path):
    mine = folder_of(module_of(path))
    above = {name for name in arrows(path) if name.startswith("nas") and folder_of(name) > mine}
    assert not above


def test_every_folder_of_nas_has_its_place_in_the_flow():
    folders = {path.name for path in (ROOT / "nas").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FLOW)
    assert len([path for path in (ROOT / "nas").iterdir() if path.is_file()]) <= ROOT_FILES


@pytest.mark.parametrize("package", PACKAGES)
def test_no_files_import_each_other_in_a_circle(package):
    left = {
        name: {other for other in arrows(path) if other.split(".")[0] == package}
        for name, path in MODULES.items()
        if name.split(".")[0] == package
    }
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert not left


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_nothing_imports_torchs_compiler():
    """It takes 3 s and 150 MB, in every process, and makes a folder for temporary files."""
    imports = (
        "import morphs, nas.cli.run_commands, nas.execute.worker, nas.report, nas.cli.morph, nas.cli.listing"
    )
    code = f"import sys; {imports}; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


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
