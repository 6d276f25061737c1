"""What tells whether a run may be resumed bit for bit: the hash of the code that decides."""

import shutil
from pathlib import Path

import pytest
from test_architecture import MODULES, arrows

import nas
from nas.ledger.config_file import DECIDING, sources

ROOT = Path(nas.__file__ or "").parents[1]


# What the code that decides imports besides: it carries, checks and keeps, but decides nothing.
NEUTRAL = ("nas/base", "nas/config", "nas/execute", "nas/ledger", "nas/registry", "nas/run/start.py")


def test_all_that_the_deciding_code_imports_is_hashed_or_known_to_decide_nothing() -> None:
    left = {"nas.execute.task", "nas.run.plan", "nas.run.final_training"}
    reached: set[str] = set()
    while left:
        module = left.pop()
        reached.add(module)
        left |= arrows(MODULES[module]) - reached
    places = {MODULES[module].relative_to(ROOT).as_posix() for module in reached}
    listed = (*DECIDING, *NEUTRAL)
    assert not [p for p in places if not any(p == name or p.startswith(f"{name}/") for name in listed)]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("morphs", "search_spaces", "nas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_copy_of_the_code_has_the_same_hash(copy: Path) -> None:
    assert sources(copy) == sources()


@pytest.mark.parametrize("place", DECIDING)
def test_a_place_that_was_renamed_is_an_error(copy: Path, place: str) -> None:
    (copy / place).rename((copy / place).with_name("renamed"))
    with pytest.raises(FileNotFoundError, match=Path(place).name):
        sources(copy)


def test_a_file_that_was_edited_or_renamed_inside_a_place_changes_the_hash(copy: Path) -> None:
    file = copy / "nas/train/sgd.py"
    renamed = file.rename(file.with_name("sgd_renamed.py"))
    assert sources(copy) != sources()
    renamed.rename(file)
    assert sources(copy) == sources()
    file.write_text(file.read_text() + "\n# another line\n")
    assert sources(copy) != sources()
