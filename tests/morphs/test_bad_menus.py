"""Menus, limits and networks that are none: one error before anything is listed, never an illegal site."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
from strategies import lively

import morphs
from morphs.errors import LimitsError, MorphError, ParseError, UnsupportedModule
from morphs.typed import Positive
from search_spaces import Space

GRAPH = morphs.parse_graph("""
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=8, kernel=3, padding=1); n = batch_norm(c); r = relu(n)
    d = conv2d(r, channels=8, kernel=3, padding=1); p = p_activation(d, fn=relu); a = add(p, r)
    k = conv2d(a, channels=8, kernel=3, padding=1); q = relu(k); f = flatten(q); h = linear(f, features=12); t = tanh(h)
    l = linear(t, features=5); out = output(l)
""")
NET = lively(GRAPH)
REFUSED = {
    "a word for a list": (morphs.Widen, {"how": "zero"}, "widen: choice how: 'zero'"),
    "a number for a list": (morphs.Widen, {"factor": 2}, "widen: choice factor: 2"),
    "a misspelt value": (morphs.Widen, {"how": ("zeros",)}, "how: 'zeros'"),
    "a misspelt choice": (morphs.Widen, {"factors": (2,)}, "'factors'; choose from how, factor"),
    "no choices": (morphs.Retire, {"how": ("x",)}, "'how'"),
    "an empty list": (morphs.AddSkip, {"reach": ()}, "add_skip: choice reach:"),
    "no way to add": (morphs.AddSkip, {"how": ("sum",)}, "add_skip: choice how: 'sum'"),
    "a text for a number": (morphs.Narrow, {"factor": ("a",)}, "choice factor: 'a'"),
    "NaN": (morphs.Widen, {"factor": (float("nan"),)}, "choice factor: nan"),
    "zero": (morphs.SqueezeExcite, {"ratio": (4, 0)}, "squeeze_excite: choice ratio: 0 "),
    "a number for a list of them": (morphs.GrowKernel, {"by": (2,)}, "choice by: 2 "),
    "half a pair": (morphs.InsertBlock, {"kernels": ((3,),)}, "choice kernels: (3,)"),
    "one pair of two": (morphs.Deepen, {"factors": ((3, 3),)}, "choice factors: 3 "),
    "a word for groups": (morphs.Deepen, {"groups": ("all",)}, "choice groups: 'all'"),
    "a number for yes": (morphs.Deepen, {"norm": (1,)}, "deepen: choice norm: 1 "),
    "no kind of op": (morphs.RemoveLayer, {"kinds": ("convolve",)}, "choice kinds: 'convolve'"),
    "a list": (morphs.Widen, [("how", ("zero",))], "list"),
}  # fmt: skip
ODD = (0, -1, 1.5, "relu", "no such word", True, None, (3, 3), (-1, -1), ((3, 3), (1, 1)), [2, 2], {}, 10**30)


class Asked(Mapping):
    """An empty menu that writes down which choices are looked up."""

    def __init__(self):
        self.keys_seen = set()

    def __getitem__(self, key):
        self.keys_seen.add(key)
        raise KeyError(key)

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("listing", ["sites", "refused"])
def test_a_menu_that_is_none(case, listing):
    move, options, text = REFUSED[case]
    for place in (NET, GRAPH):
        with pytest.raises(ParseError) as caught:
            getattr(move, listing)(place, options=options)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value)


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_the_choices_are_those_that_a_move_looks_up(move):
    asked = Asked()
    list(move.candidates(GRAPH, asked))
    assert asked.keys_seen == set(move.choices)


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_any_value_of_a_choice_is_refused_or_leads_to_moves_whose_fields_are_right(move):
    for key in move.choices:
        for value in ODD:
            try:
                sites = list(move.sites(GRAPH, options={key: (value,)}))
            except ParseError:
                continue
            for site in sites:
                assert morphs.parse(str(site)) == site
                site.reshape(GRAPH)


def test_values_come_in_any_iterable_that_is_read_once():
    assert set(morphs.Widen.sites(NET, options={"factor": iter((2, 3)), "how": ["zero"]})) == set(
        morphs.Widen.sites(NET, options={"factor": (2.0, 3.0), "how": ("zero",)})
    )
    assert {site.to for site in morphs.GrowKernel.sites(NET, options={"by": [[2, 0]]})} == {(5, 3)}


@dataclass(frozen=True)
class Own(morphs.Widen):
    """A move from outside, with a menu of its own."""

    name = "own"
    choices: ClassVar = {**morphs.Widen.choices, "mine": object, "size": Positive}


@dataclass(frozen=True)
class Plain(morphs.Retire):
    """A move from outside that declares nothing of its own."""

    name = "plain"


def test_a_move_from_outside_declares_its_choices_the_same_way():
    mine = object()
    assert list(Own.sites(NET, options={"factor": (2,), "mine": (mine,), "size": (1,)}))
    bad = {"how": ("zeros",), "mine": (1,), "size": (0,), "yours": (1,)}
    for key, values in bad.items():
        with pytest.raises(ParseError, match=f"own: .*{key}"):
            Own.sites(NET, options={key: values})
    with pytest.raises(ParseError, match=r"plain: .*'how'"):
        Plain.sites(NET, options={"how": ("zero",)})


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_networks_and_limits_that_are_none(move):
    with pytest.raises(UnsupportedModule, match=f"{move.name}: .*MorphedNetwork.*from_torch"):
        move.sites(NET.to_torch())
    with pytest.raises(LimitsError, match=f"{move.name}: .*dict.*morphs.Limits"):
        move.refused(NET, limits={"params": 10})


def test_a_space_with_a_bad_menu_is_refused_when_it_is_made():
    with pytest.raises(MorphError, match=r"widen: .*'factors'"):
        Space(GRAPH, ((morphs.Deepen, {}), (morphs.Widen, {"factors": (2,)})))
