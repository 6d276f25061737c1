"""Menus, limits and networks that are none: one error before anything is listed, never an illegal site."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from strategies import lively

import morphs
from morphs.errors import LimitsError, MorphError, ParseError, UnsupportedModule
from morphs.menus import CHOICES
from search_spaces import Space

GRAPH = morphs.parse_graph("""
    x = input(size=[3, 8, 8]); c = conv2d(x, channels=8, kernel=3, padding=1); n = batch_norm(c); r = relu(n)
    d = conv2d(r, channels=8, kernel=3, padding=1); p = p_activation(d, fn=relu); a = add(p, r)
    k = conv2d(a, channels=8, kernel=3, padding=1); q = relu(k); f = flatten(q); h = linear(f, features=12); t = tanh(h)
    l = linear(t, features=5); out = output(l)
""")
NET = lively(GRAPH)
REFUSED = {
    "a word for a list": (morphs.Widen, {"how": "zero"}, "widen: choice how: 'zero' is no list of values; write ('ze"),
    "a number for a list": (morphs.Widen, {"factor": 2}, "widen: choice factor: 2 is no list of values; write (2,)"),
    "a misspelt value": (morphs.Widen, {"how": ("zeros",)}, "how: 'zeros' is none of replicate, zero, gradient; cho"),
    "a misspelt choice": (morphs.Widen, {"factors": (2,)}, "has no choice 'factors'; choose from how, factor"),
    "no choices": (morphs.Retire, {"how": ("x",)}, "retire: its menu has no choice 'how'; leave out options, it has"),
    "an empty list": (morphs.AddSkip, {"reach": ()}, "choice reach: it has no values; give one or more, or leave"),
    "no way to add": (morphs.AddSkip, {"how": ("sum",)}, "add_skip: choice how: 'sum' is none of add, convex, conc"),
    "a text for a number": (morphs.Narrow, {"factor": ("a",)}, "choice factor: 'a' is not a finite number; give one"),
    "NaN": (morphs.Widen, {"factor": (float("nan"),)}, "choice factor: nan is not a finite number; give one"),
    "zero": (morphs.SqueezeExcite, {"ratio": (4, 0)}, "choice ratio: 0.0 is not positive; give positive numbers"),
    "half a pair": (morphs.GrowKernel, {"by": ((2,),)}, "choice by: (2,) has not 2 values; give 2"),
    "one pair of two": (morphs.Deepen, {"factors": ((3, 3),)}, "factors: 3 is not a list of 2, such as [3, 3]; give"),
    "a word for groups": (morphs.Deepen, {"groups": ("all",)}, "'all' is not a whole number or depthwise; give one"),
    "a number for yes": (morphs.Deepen, {"norm": (1,)}, "deepen: choice norm: 1 is not true or false; give one"),
    "no kind of op": (morphs.RemoveLayer, {"kinds": ("conv",)}, "choice kinds: 'conv' is none of input, output, conv"),
    "a list": (morphs.Widen, [("how", ("zero",))], "widen: options is of type list; give a mapping such as"),
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
    assert asked.keys_seen == set(CHOICES[move.name])
    assert set(CHOICES) == {kind.name for kind in morphs.MOVES}


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_any_value_of_a_choice_is_refused_or_leads_to_moves_whose_fields_are_right(move):
    for key in CHOICES[move.name]:
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


def test_a_move_of_ones_own_has_the_choices_it_likes():
    @dataclass(frozen=True)
    class Own(morphs.Widen):
        """Not in the registry."""

        name = "own"

    assert list(Own.sites(NET, options={"factor": (2,), "mine": (object(),)}))
    with pytest.raises(ParseError, match="own: choice how: 'zeros' is none of"):
        Own.sites(NET, options={"how": ("zeros",)})


@pytest.mark.parametrize("move", morphs.MOVES, ids=lambda move: move.name)
def test_networks_and_limits_that_are_none(move):
    with pytest.raises(
        UnsupportedModule, match=f"{move.name}: a MorphedNetwork is neither .* morphs.from_torch"
    ):
        move.sites(NET.to_torch())
    with pytest.raises(LimitsError, match=f"{move.name}: limits is of type dict; give morphs.Limits"):
        move.refused(NET, limits={"params": 10})


def test_a_space_with_a_bad_menu_is_refused_when_it_is_made():
    with pytest.raises(MorphError, match="widen: its menu has no choice 'factors'; choose from"):
        Space(GRAPH, ((morphs.Deepen, {}), (morphs.Widen, {"factors": (2,)})))
