"""The contract that a move from outside can run: it passes a sound move and names what is wrong with others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import morphs
from morphs.errors import ContractBroken, ParseError
from morphs.graph.ops import Role, Scale
from morphs.move import NEW, Preserves
from morphs.moves.editing import insert_after, inside
from morphs.testing import check_move, default_networks


@dataclass(frozen=True)
class InsertScale(morphs.Move):
    """A move from outside: a learned factor for each channel of a layer, which starts at 1."""

    name: ClassVar[str] = "insert_scale"
    summary: ClassVar[str] = "a learned factor for each channel"
    choices: ClassVar = {"start": ...}

    node: str
    start: float = 1.0

    @classmethod
    def candidates(cls, graph, options) -> Iterator["InsertScale"]:
        """After every layer. Options: start."""
        for node in graph:
            if node.op.role is Role.LAYER:
                for start in options.get("start", (1.0,)):
                    yield cls(node.name, start)

    def reshape(self, graph):
        """With the factor between the layer and its readers."""
        inside(self, graph, self.node)
        return insert_after(graph, self.node, morphs.Node(graph.fresh("scale"), Scale(), (self.node,)))

    def fill(self, parent, graph, context):
        """The factor."""
        key = (parent.graph.fresh("scale"), "weight")
        return {key: (torch.full(graph.params[key].shape, self.start, dtype=parent.dtype), NEW)}


class Writes(InsertScale):
    """Writes into the parent where no version counter sees it."""

    def fill(self, parent, graph, context):
        """The factor, and damage."""
        parent.weights[self.node, "weight"].data.mul_(2)
        return super().fill(parent, graph, context)


class Random(InsertScale):
    """Draws from the global generator, and declares no more than that it changes something."""

    preserves = Preserves.APPROXIMATE

    def fill(self, parent, graph, context):
        """Another factor each time."""
        return {
            key: (tensor + torch.rand(()), new)
            for key, (tensor, new) in super().fill(parent, graph, context).items()
        }


class Coarse(InsertScale):
    """Makes float32 in a float64 network."""

    def fill(self, parent, graph, context):
        """The factor in single precision."""
        return {
            key: (tensor.float(), new) for key, (tensor, new) in super().fill(parent, graph, context).items()
        }


class Claims(InsertScale):
    """Says that the factor is the parent's weight."""

    def fill(self, parent, graph, context):
        """The factor with a wrong origin."""
        wrong = morphs.Origin((self.node, "weight"))
        return {key: (tensor, wrong) for key, (tensor, _) in super().fill(parent, graph, context).items()}


class Rounds(InsertScale):
    """Does not read back from its text."""

    def __str__(self):
        return str(InsertScale(self.node, start=2.0))


class Undeclared(InsertScale):
    """Looks up a choice that its menu does not declare."""

    choices: ClassVar = {}


class Nowhere(InsertScale):
    """Has no sites."""

    @classmethod
    def candidates(cls, graph, options):
        """None."""
        options.get("start")
        return iter(())


class Takes(InsertScale):
    """Takes any menu."""

    @classmethod
    def sites(cls, network, limits=None, options=None):
        """All candidates, whatever the menu."""
        return cls.candidates(network if limits is None else network.graph, {})


@dataclass
class Thawed:
    """Can be changed."""

    name: ClassVar[str] = "thawed"


BROKEN = {
    Writes: "parent",
    Random: "context.generator",
    Coarse: "float32",
    Claims: "parameter weight of node scale1",
    Rounds: "JSON",
    Undeclared: "looks up start",
    Nowhere: "networks=",
    Takes: "`sites`",
}


def test_a_sound_move_passes():
    check_move(InsertScale, seeds=(0,))
    check_move(InsertScale, networks=default_networks()[:1], seeds=(1,))


@pytest.mark.parametrize("move", BROKEN, ids=lambda move: move.__name__)
def test_a_breach_is_found_and_named(move):
    with pytest.raises(ContractBroken, match=rf"^{move.name}: .*{BROKEN[move]}"):
        check_move(move, seeds=(0,))


def test_what_a_site_does_not_declare_is_found():
    with pytest.raises(ContractBroken, match=r"insert_scale\(node=c, start=1.5\)"):
        check_move(InsertScale, options={"start": (1.5,)}, seeds=(0,))


def test_a_move_without_sites_on_the_networks_given_does_not_pass():
    with pytest.raises(ContractBroken, match="merge_groups"):
        check_move(morphs.MergeGroups, networks=default_networks()[:1])


def test_a_move_from_outside_parses_applies_and_chains():
    moves = (*morphs.MOVES, InsertScale)
    net = default_networks()[0]
    move = InsertScale("c")
    assert morphs.parse("insert_scale(node=c)", moves=moves) == move == morphs.parse(move.to_json(), moves)
    assert morphs.parse_chain(f"{move}; widen(node=d, to=9)", moves=moves)[0] == move
    child = morphs.apply(net, "insert_scale(node=c)", moves=moves)
    last = next(morphs.apply_chain(net, "insert_scale(node=c); widen(node=d, to=9)", moves=moves))
    assert child.network.digest == last.network.digest == morphs.apply(net, move).network.digest
    for call in (
        lambda: morphs.parse(str(move)),
        lambda: morphs.apply(net, str(move)),
        lambda: list(morphs.apply_chain(net, str(move))),
    ):
        with pytest.raises(ParseError, match="insert_scale"):
            call()


def test_two_moves_of_one_name_are_refused():
    with pytest.raises(ParseError, match=r"InsertScale and Writes.*insert_scale"):
        morphs.parse("widen(node=c, to=3)", moves=(*morphs.MOVES, InsertScale, Writes))


class Unnamed(InsertScale):
    """Has no name."""

    name = None


class Bursts(InsertScale):
    """Raises what is not an error of morphs."""

    name = "bursts"

    def reshape(self, graph):
        """Fails."""
        raise ZeroDivisionError("of mine")


@pytest.mark.parametrize("given", [3, str, Thawed, morphs.Move, Unnamed, Bursts])
def test_a_value_that_is_not_a_working_move_breaks_the_contract(given):
    with pytest.raises(ContractBroken):
        check_move(given)
