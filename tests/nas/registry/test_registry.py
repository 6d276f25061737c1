"""The registry as a value, and what installed packages add to it."""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from engine_support import TINY
from pydantic import Field
from registry_support import outside
from search_support import SPACE

from morphs import MOVES, Limits, Move, Widen
from nas.base.errors import UserError
from nas.config.settings import Settings
from nas.policies.builtin import make_policy
from nas.policies.entry import PolicyEntry
from nas.policies.hill_climb import HillClimb
from nas.policies.sampling import SpaceMoves
from nas.registry.configure import check_config, make_config
from nas.registry.defaults import REGISTRY
from nas.registry.plugins import with_plugins
from nas.registry.registry import SpaceEntry


def _space(shape: Any, classes: int) -> Any:
    return SPACE


@pytest.mark.parametrize(
    "part",
    [
        {"moves": [Widen]},
        {"spaces": {"digits": _space}},
        {"policies": {"random": lambda config, sampler: None}},
        {"samplers": {"tpe": REGISTRY.samplers["uniform"]}},
        {"executors": {"local": REGISTRY.executors["ray"]}},
        {"objectives": {"params": REGISTRY.objectives["macs"]}},
    ],
    ids=lambda part: next(iter(part)),
)
def test_a_name_that_is_there_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="registry: the"):
        REGISTRY.with_(**part)


def test_a_registry_is_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = REGISTRY.with_(spaces={"mine": SpaceEntry(_space, {"data": "digits", "generations": 2})})
    assert "mine" not in REGISTRY.spaces
    assert make_config("mine", {"children": 2}, more).generations == 2
    with pytest.raises(UserError, match='"mine" is neither a search space nor a recipe'):
        make_config("mine", {})
    with pytest.raises(UserError, match="data set"):
        more.with_(data={"a": print}).with_(data={"a": print})
    with pytest.raises(UserError, match="is not a move"):
        REGISTRY.with_(moves=[int])  # pyright: ignore


class Depth(Settings):
    """The settings of a policy of a test's own."""

    depth: int = Field(1, ge=1, le=9, description="How deep.")


def test_a_policy_of_ones_own_has_its_settings_with_it() -> None:
    made: list[Any] = []

    def make(context: Any) -> HillClimb:
        made.append(context.settings)
        return HillClimb(context.sampler, 2, context.settings.depth)

    registry = REGISTRY.with_(policies={"deep": PolicyEntry(make, Depth)})
    config = check_config({**TINY, "policy": "deep", "depth": 3}, registry)
    assert config.policy_settings == {"depth": 3}
    policy: Any = make_policy(config, SPACE, Limits(), registry.policies)
    assert (made, policy.moves_per_child) == ([Depth(depth=3)], 3)
    with pytest.raises(UserError, match="depth: input should be less than or equal to 9, not 10"):
        check_config({**TINY, "policy": "deep", "depth": 10}, registry)
    with pytest.raises(UserError, match="hill-climb has no setting depth; choose deep, which has it"):
        check_config({**TINY, "depth": 3}, registry)


PLUGIN = """
from outside import Twice, nodes, space

def grow(registry):
    return registry.with_(moves=[Twice], spaces={"outer": space})

PART = {"objectives": {"nodes": nodes}}

def broken(registry):
    raise OSError("no\\nway")

def nothing(registry):
    pass
"""


def install(folder: Path, points: str) -> None:
    """What pip leaves of a package with these entry points."""
    made = folder / "growers-1.0.dist-info"
    made.mkdir(exist_ok=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: growers\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(f"[morph_nas.plugins]\n{points}\n")
    (folder / "growers.py").write_text(PLUGIN)


def test_an_installed_package_brings_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with outside(tmp_path, monkeypatch):
        install(tmp_path, "b = growers:PART\na = growers:grow")
        found = with_plugins()
        assert [move.name for move in found.moves] == [*(move.name for move in MOVES), "twice"]
        assert found.spaces.keys() - REGISTRY.spaces.keys() == {"outer"}
        assert found.objectives.keys() - REGISTRY.objectives.keys() == {"nodes"}

        from nas.cli import listing, tables

        for shown, name in ((listing.moves(found), "twice"), (listing.spaces(found), "outer")):
            tables.show(shown)
            assert name in capsys.readouterr().out
        sys.modules.pop("growers", None)


@pytest.mark.parametrize(
    ("point", "fact"),
    [
        (
            "growers:broken",
            r'plugin "x" of growers failed \(OSError: no way, .*growers.py:\d+\); .*uninstall growers',
        ),
        ("growers:nothing", 'plugin "x" of growers returned a NoneType, not a Registry'),
        ("growers:missing", 'plugin "x" of growers failed'),
        ("nowhere:grow", 'plugin "x" of growers failed'),
        (
            "growers:grow\ny = growers:grow",
            'plugin "y" of growers: registry: the move "twice" already exists',
        ),
    ],
)
def test_a_broken_plugin_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, fact: str
) -> None:
    with outside(tmp_path, monkeypatch):
        install(tmp_path, f"x = {point}")
        with pytest.raises(UserError, match=fact) as caught:
            with_plugins()
        assert "\n" not in str(caught.value)
        sys.modules.pop("growers", None)


class _Incomplete(Move):
    """A move without a name or methods."""


@pytest.mark.parametrize("given", [3, str, Move, _Incomplete])
def test_what_is_not_a_whole_move_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="move"):
        REGISTRY.with_(moves=[given])


class _Bursts(Widen):
    """A move whose code fails."""

    name = "bursts"

    def reshape(self, graph: Any) -> Any:
        raise ZeroDivisionError("of mine")


def test_what_the_code_of_a_move_raises_is_one_line_with_its_place() -> None:
    space = replace(SPACE, moves=((_Bursts, {"factor": (2,)}),))
    with pytest.raises(UserError, match=r"bursts.*ZeroDivisionError.*test_registry\.py"):
        list(SpaceMoves(space, Limits()).near(SPACE.seed.to_json(), 0, Random(0)))
