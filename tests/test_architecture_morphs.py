"""The layers inside morphs: imports point downward only, and no modules import each other in a circle."""

import ast
from pathlib import Path

import pytest

from morphs.graph.ops import OPS

ROOT = Path(__file__).parents[1]
LAYERS = (  # each may import its own and those before it; the longest name that fits a module decides
    ("morphs.errors",),
    ("morphs.typed", "morphs.textform"),
    ("morphs.graph",),
    (
        "morphs.activations",
        "morphs.torch_io.aten_call",
        "morphs.torch_io.frozen",
        "morphs.torch_io.layers",
        "morphs.torch_io.apart",
    ),
    ("morphs.torch_io.names", "morphs.torch_io.keys", "morphs.torch_io.to_torch"),
    ("morphs.network", "morphs.examples"),
    (
        "morphs.init",
        "morphs.limits",
        "morphs.training_memory",
        "morphs.solve",
        "morphs.torch_io",
        "morphs.choices",
    ),
    ("morphs.move",),
    ("morphs.moves",),
    ("morphs.move_text", "morphs.drift", "morphs.held_out", "morphs.files", "morphs.export"),
    ("morphs.apply",),
    ("morphs.carry", "morphs.testing"),
    ("morphs",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted((ROOT / "morphs").rglob("*.py"))}


def rank_of(module: str) -> int:
    parts = module.split(".")
    prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    name = next(prefix for prefix in prefixes if prefix in RANK)
    assert name != "morphs" or module == "morphs", f"{module} has no layer; add it to LAYERS"
    return RANK[name]


def imported(module: str) -> set[str]:
    """The modules of morphs that `module` imports, wherever in its file, also for type checking only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & MODULES.keys()) or {node.module}
    return (found & MODULES.keys()) - {module}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """The modules left once all that import nothing left are taken away: those of circles, and what imports them."""
    left = dict(arrows)
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    above = {name for name in imported(module) if rank_of(name) > rank_of(module)}
    assert not above, f"{module} imports {above} of a layer above its own"


def test_no_modules_import_each_other_in_a_circle():
    assert circle({module: imported(module) for module in MODULES}) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"a"}, "c": set(), "d": {"c"}}) == ["a", "b"]


def test_every_layer_exists():
    assert [name for name in RANK if name not in MODULES] == []


def test_no_move_tests_the_class_of_an_op():
    ops = {"Op", *(op.__name__ for op in OPS)}
    for module in (name for name in MODULES if not name.startswith("morphs.torch_io")):
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                tested = {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)}
                assert not tested & ops, f"{module}, line {node.lineno}: ask the op for a fact instead"
