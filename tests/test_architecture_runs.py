"""runs and tests are apart: neither imports from the other, by a module's name or by a file's path."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADERS = ("sys.path", "importlib", "__import__")  # what turns a path or a text into a module


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def own_names(folder: str) -> set[str]:
    """What an import from the folder could begin with. Folders of tests have the packages' names: these don't count."""
    paths = {path.relative_to(ROOT / folder) for path in files(folder)}
    names = {path.stem for path in paths} | {path.parts[0] for path in paths if len(path.parts) > 1}
    product = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    return {folder, *names} - product


def imported(source: str, other: str) -> Iterator[str]:
    """What a file imports of the folder `other`."""
    tree = ast.parse(source)
    names = own_names(other)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if names & set(alias.name.split(".")[:1]))
        elif isinstance(node, ast.ImportFrom) and node.module and names & set(node.module.split(".")[:1]):
            yield node.module
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    named = any(isinstance(text, str) and other in Path(text).parts for text in texts)
    if named and any(loader in ast.unparse(tree) for loader in LOADERS):
        yield f"a path to {other}"


CASES = [(path, other) for folder, other in (("runs", "tests"), ("tests", "runs")) for path in files(folder)]


@pytest.mark.parametrize(("path", "other"), CASES, ids=[str(path.relative_to(ROOT)) for path, _ in CASES])
def test_runs_and_tests_do_not_import_each_other(path: Path, other: str) -> None:
    if not path.stem.startswith("test_architecture"):  # those have to name what is forbidden
        assert list(imported(path.read_text(encoding="utf-8"), other)) == []


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ("from tests.strategies import networks", "tests"),
        ("def f():\n    from strategies import networks", "tests"),
        ("import faults.figures", "tests"),
        ("sys.path[:0] = [str(ROOT / 'tests')]\nimport x", "tests"),
        ("import runs.benchmarks.parallel as parallel", "runs"),
        ("import parallel", "runs"),
        ("importlib.import_module(name, ROOT / 'runs' / 'benchmarks')", "runs"),
    ],
)
def test_an_import_of_the_other_is_found(source: str, other: str) -> None:
    assert len(list(imported(source, other))) == 1


@pytest.mark.parametrize(
    "source", ["import nas.run", "command = [ROOT / 'runs' / 'papers']", "import pytest"]
)
def test_what_is_no_import_of_the_other_passes(source: str) -> None:
    assert list(imported(source, "runs")) == []
