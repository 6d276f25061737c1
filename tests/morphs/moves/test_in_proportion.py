"""Widths that grow together by one factor: flattened and plain columns, what one norm reads in several pieces."""

from dataclasses import replace

import pytest
from strategies import lively

import morphs
from morphs.errors import IllegalMove

MAP = "x = input(size=[3, 4, 4]); "
TOKENS = "x = input(size=[5, 3]); "
END = "; y = linear(n, features=2); out = output(y)"
GROWS = {  # the text of a graph, and the nodes with a width that can be named, in all the ways that it can grow
    "flattened plus plain": (
        MAP
        + """c = conv2d(x, channels=3, kernel=1); f = flatten(c); g = flatten(x); l = linear(g, features=48)
        a = add(f, l); r = relu(a); m = linear(r, features=6); n = tanh(m)""",
        {"c", "m"},
    ),
    "a depthwise multiplier plus a convolution": (
        MAP
        + """c = conv2d(x, channels=3, kernel=1); d = conv2d(c, channels=6, kernel=3, padding=1, groups=3)
        b = batch_norm(d); e = conv2d(x, channels=6, kernel=1); a = add(b, e); m = max_pool2d(a, kernel=2)
        n = flatten(m)""",
        {"c"},
    ),
    "two multipliers": (
        MAP
        + """c = conv2d(x, channels=3, kernel=1); d = conv2d(c, channels=6, kernel=3, padding=1, groups=3)
        e = conv2d(x, channels=2, kernel=1); f = conv2d(e, channels=6, kernel=3, padding=1, groups=2)
        a = add(d, f); n = flatten(a)""",
        {"c"},
    ),
    "a norm of two alike": (
        TOKENS
        + "a = linear(x, features=4); b = linear(x, features=4); c = concat(a, b, axis=1); n = rms_norm(c)",
        {"a"},
    ),
}
NORMED = {
    "two unlike": TOKENS
    + "a = linear(x, features=4); b = linear(x, features=6); c = concat(a, b, axis=1); n = layer_norm(c)",
    "three unlike": TOKENS
    + """a = linear(x, features=4); b = linear(x, features=6); d = linear(x, features=5)
        c = concat(a, b, d, axis=1); n = layer_norm(c)""",
    "chunks": MAP
    + """s = conv2d(x, channels=8, kernel=1); a = slice(s, start=0, stop=3, axis=0)
        b = slice(s, start=3, stop=6, axis=0); e = slice(s, start=6, stop=8, axis=0)
        d = conv2d(a, channels=3, kernel=3, padding=1, groups=3); f = add(d, b)
        g = conv2d(f, channels=3, kernel=3, padding=1, groups=3); c = concat(d, g, e); p = permute(c, order=[1, 2, 0])
        k = layer_norm(p); l = linear(k, features=8); q = permute(l, order=[2, 0, 1]); z = add(s, q); n = flatten(z)""",
    "a map that is flattened": MAP + "a = conv2d(x, channels=4, kernel=1); c = flatten(a); n = layer_norm(c)",
    "one twice": TOKENS + "a = linear(x, features=4); c = concat(a, a, axis=1); n = layer_norm(c)",
}


def network(text: str) -> morphs.Network:
    return lively(morphs.parse_graph(" ".join(text.split()).replace(") ", "); ") + END))


def grown(net: morphs.Network, how: str) -> list[morphs.Child]:
    """Whatever widens by how, checked."""
    children = []
    for site in morphs.Widen.sites(net, options={"how": (how,), "factor": (1.5, 2)}):
        children.append(child := morphs.apply(net, site))
        assert max(child.drift.eval, child.drift.train) <= 1e-12, site
        more = morphs.apply(child.network, "widen_all(factor=2, how=replicate)")
        assert max(more.drift.eval, more.drift.train) <= 1e-12, site
    return children


@pytest.mark.parametrize("case", GROWS)
def test_columns_for_one_channel_grow_with_it(case):
    text, nodes = GROWS[case]
    net = network(text)
    assert set(morphs.channel_groups(net.graph).free().values()) == nodes
    for how in ("replicate", "zero", "paired"):
        assert grown(net, how) or (how == "paired" and "norm" in case)


@pytest.mark.parametrize("case", NORMED)
def test_what_one_layer_norm_reads_grows_by_one_factor(case):
    net = network(NORMED[case])
    assert len(morphs.channel_groups(net.graph).free()) == 1
    assert grown(net, "replicate")
    assert not grown(net, "zero")
    assert not grown(net, "paired")
    (site,) = morphs.Widen.sites(net, options={"how": ("replicate",), "factor": (2,)})
    with pytest.raises(IllegalMove, match=r'"[nk]"'):
        morphs.apply(net, replace(site, how="paired"))


def test_pieces_without_a_common_divisor_grow_to_whole_copies():
    net = network(NORMED["three unlike"])
    child = morphs.apply(net, "widen(node=a, to=2, how=replicate)").network.graph
    assert [child.shape(name)[-1] for name in ("a", "b", "d", "c")] == [8, 12, 10, 30]


def test_a_norm_that_is_used_twice_is_rescaled_once():
    net = network(
        TOKENS
        + """a = linear(x, features=4); b = linear(a, features=4); c = layer_norm(b); d = linear(c, features=4, owner=b)
        n = layer_norm(d, owner=c)"""
    )
    assert grown(net, "zero")
    assert grown(net, "replicate")
